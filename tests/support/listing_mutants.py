"""What mutants.py breaks in lib/flow/listing.c, in emit.c's snapshot and in table.c's places: as
segment_check_mutants.py."""

LISTING_PIECES = [
    # is_open
    ("return !fsm_over(table_hot(t, r)->state);", [
        ("what is over is listed", "return true;"),
        ("what is half-open is not listed", "return table_hot(t, r)->state >= FSM_OPEN && !fsm_over(table_hot(t, r)->state);")]),
    ("return !e->deferred && !e->incarnation;", [
        ("deferred attempts are listed", "return !e->incarnation;"),
        ("unconfirmed incarnations are listed", "return !e->deferred;"),
        ("SYN entries are not listed", "return false;")]),
    # listing_read
    ("place < end && n < max && entries < LISTING_ENTRIES && places < LISTING_PLACES", [
        ("one row too many", "place < end && n <= max && entries < LISTING_ENTRIES && places < LISTING_PLACES"),
        ("one row too few", "place < end && n < max - 1 && entries < LISTING_ENTRIES && places < LISTING_PLACES"),
        ("any number of entries in a call", "place < end && n < max && places < LISTING_PLACES"),
        ("any number of places in a call", "place < end && n < max && entries < LISTING_ENTRIES"),
        ("the last place is not looked at", "place < end - 1 && n < max && entries < LISTING_ENTRIES && places < LISTING_PLACES")]),
    ("ret[n++].snapshot.place = place < end ? place : LISTING_END;", [
        ("a row's position is its own", "ret[n++].snapshot.place = place - 1;"),
        ("rows are overwritten", "ret[n].snapshot.place = place < end ? place : LISTING_END;")]),
    ("*cursor = place < end ? place : LISTING_END;", [
        ("the end is not told", "*cursor = place;"),
        ("a row twice", "*cursor = place < end ? place - (n == max) : LISTING_END;"),
        ("a place is passed over", "*cursor = place + 1 < end ? place + 1 : LISTING_END;")]),
]

EMIT_PIECES = [
    ("if (!since && conn_is_midstream(c)) return DURATION_UNKNOWN;", [
        ("mid-stream, the time in a state is known", "")]),
    ("return now_ns > c->start_ns + since ? now_ns - c->start_ns - since : 0;", [
        ("time in a state is the age", "return now_ns - c->start_ns;")]),
    ("struct trigger trigger = { t->now_ns, SEGMENT_NONE, BASIS_OBSERVED };\n\n\tmemset(ret", [
        ("a row is of its newest segment", "struct trigger trigger = { c->last_ns, SEGMENT_NONE, BASIS_OBSERVED };\n\n\tmemset(ret")]),
    ("ret->snapshot.closed_by = fsm_first_closer(c->state);", [("no one has closed", "")]),
    ("ret->snapshot.outstanding = t->cfg.control ? OUTSTANDING_NONE : outstanding_of(c);", [
        ("nothing is outstanding", ""),
        ("control mode knows what is outstanding", "ret->snapshot.outstanding = outstanding_of(c);")]),
    ("if (c->state == FSM_ANSWERED) ret->snapshot.server_rtt", [
        ("a handshake time is made of counts", "ret->snapshot.server_rtt"),
        ("no handshake time", "if (false) ret->snapshot.server_rtt")]),
]

TABLE_PIECES = [
    ("return k->tag[place % WAYS] ? k->ref[place % WAYS] : TABLE_NONE;", [
        ("an empty place has its last entry", "return k->ref[place % WAYS];")]),
    ("return t->buckets * WAYS;", [("the last bucket has no places", "return (t->buckets - 1) * WAYS;")]),
]
