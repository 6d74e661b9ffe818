"""What mutants.py breaks in what requests need: daemon/synfind/lister.c, filters.c, linelog.c and
subscriber.c, lib/flow/segment_report.c and the blocks of SACK in lib/wire/tcpopt.c: as
segment_check_mutants.py."""

LISTER_PIECES = [
    # octets_of, rank_of
    ("if (e->snapshot.counts == COUNTS_SEGMENTS)\n\t\t\tsum += e->snapshot.bytes[i];", [
        ("control mode has octets of segments", "if (true)\n\t\t\tsum += e->snapshot.bytes[i];")]),
    ("else if (e->snapshot.payload[i] != UINT64_MAX)", [("what is not known counts", "else")]),
    ("case LIST_OLDEST:\n\t\treturn UINT64_MAX - e->snapshot.start_ns;", [
        ("the newest are the oldest", "case LIST_OLDEST:\n\t\treturn e->snapshot.start_ns;")]),
    ("return UINT64_MAX - e->snapshot.end_ns;", [("the busy are idle", "return e->snapshot.end_ns;")]),
    ("return (uint64_t)e->snapshot.retrans[0] + e->snapshot.retrans[1];", [
        ("one side's repetitions", "return (uint64_t)e->snapshot.retrans[0];"),
        ("repetitions overflow", "return (uint16_t)(e->snapshot.retrans[0] + e->snapshot.retrans[1]);")]),
    # comes_after
    ("a->rank != b->rank ? a->rank < b->rank : a->e.flow_id > b->e.flow_id;", [
        ("the least first", "a->rank != b->rank ? a->rank > b->rank : a->e.flow_id > b->e.flow_id;"),
        ("equal ones by chance", "a->rank < b->rank;")]),
    # heap_sink, heap_rise, list_add
    ("if (child + 1 < n && comes_after(&heap[child + 1], &heap[child]))", [
        ("the first child sinks", "if (false)")]),
    ("if (!comes_after(&heap[child], row))", [("a row sinks to the bottom", "if (false)")]),
    ("at && comes_after(row, &heap[(at - 1) / 2])", [("a row does not rise", "false && at"),
                                                     ("a row rises to the top", "at > 0")]),
    ("else if (l->n && comes_after(&l->row[0], row))", [("a full list is as it is", "else if (false)"),
                                                        ("a full list takes any row", "else if (l->n)")]),
    # list_merge
    ("to->open += from->open;", [("one decoder's connections", "")]),
    ("to->matched += from->matched;", [("one decoder's matches", "")]),
    # lister_piece
    ("q.rows && q.rows < LIST_PIECE_ROWS ? q.rows : LIST_PIECE_ROWS;", [
        ("pieces of any length", "LIST_PIECE_ROWS;")]),
    ("uint32_t cursor = l->begun ? l->at : q.cursor;", [("a piece begins again", "uint32_t cursor = q.cursor;")]),
    ("l->begun = !n && cursor != LISTING_END;", [
        ("the next piece goes on where this one ended", "l->begun = cursor != LISTING_END;")]),
    ("ret[n++].snapshot.no_row = true;", [("a row of nothing", "ret[n++].snapshot.no_row = false;")]),
    ("ret[n - 1].snapshot.place = cursor;", [("the end of an empty table is not said", "")]),
    ("ret[i].snapshot.generation = q.generation;", [("an answer to any request", "")]),
    ("ret[i].snapshot.left = (uint8_t)(n - 1 - i);", [("each row is the last", "ret[i].snapshot.left = 0;")]),
    # list_take, lister_list
    ("if (q->match && !q->match(q->filter, e))\n\t\treturn;", [("each row matches", "")]),
    ("q->open++;", [("only matches are open", "q->open += !q->match;")]),
    ("bool stops = q->order == LIST_ANY && q->limit;", [
        ("any list stops at its limit", "bool stops = q->limit;"),
        ("without an order it does not stop", "bool stops = false;"),
        ("a count stops at once", "bool stops = q->order == LIST_ANY;")]),
    ("q->cursor = row[i].snapshot.place;", [("the next page leaves some out", "")]),
    ("if (q->cursor != LISTING_END && !(stops && q->n == q->limit))", [
        ("one slice is all", "if (false)")]),
    ("if (atomic_load_explicit(&q->cancelled, memory_order_relaxed)) {", [
        ("a cancelled list goes on", "if (false) {")]),
    # lister_drop
    ("list_hand_back(l, first_list(l), LIST_DROPPED);", [
        ("what is dropped is done", "list_hand_back(l, first_list(l), LIST_DONE);")]),
    ("spsc_release(&l->pieces, spsc_ready(&l->pieces));", [("pieces are not dropped", "")]),
]

SEGMENT_REPORT_PIECES = [
    # entry_of
    ("if (ref == TABLE_NONE || other == TABLE_NONE) return ref;", [
        ("of two entries the first one", "return ref;")]),
    ("if (s->flags & TCP_SYN && table_shape_of(other) == SHAPE_SYN && table_syn(&t->table, other)->isn[SIDE_A] == s->seq)", [
        ("any segment is of the attempt", "if (table_shape_of(other) == SHAPE_SYN)"),
        ("no SYN is of the attempt", "if (false)")]),
    # base_learn
    ("if (b->known >> side & 1) return;", [("numbers are counted from the newest segment", "")]),
    # base_of
    ("if (b->start_ns != c->start_ns) {", [("the numbers of an older connection", "if (false) {"),
                                           ("each segment is the first", "if (true) {")]),
    ("if (!conn_is_midstream(c)) base_learn(b, SIDE_A, c->isn);", [
        ("mid-stream, the ISN is known", "base_learn(b, SIDE_A, c->isn);")]),
    ("base_learn(b, from, s->flags & TCP_SYN ? s->seq : s->seq - 1);", [
        ("the SYN has 1", "base_learn(b, from, s->seq - 1);"),
        ("mid-stream numbers begin with 0", "base_learn(b, from, s->seq);")]),
    ("if (s->flags & TCP_ACK) base_learn(b, !from, s->ack - 1);", [
        ("the other side is not known by what is acknowledged", ""),
        ("what is acknowledged is 0", "if (s->flags & TCP_ACK) base_learn(b, !from, s->ack);"),
        ("a SYN acknowledges something", "base_learn(b, !from, s->ack - 1);")]),
    # segment_report
    ("if (ref == TABLE_NONE) return false;", [("a segment of no connection", "if (ref == TABLE_NONE) return true;")]),
    ("from = f.key.self ? SIDE_A : sender != f.c->client_end;", [
        ("the sides are those of the key", "from = sender;"),
        ("the server sends", "from = SIDE_B;")]),
]

TCPOPT_PIECES = [
    ("if (kind == OPT_END)\n\t\t\tbreak;\n\t\tif (kind == OPT_NOP)\n\t\t\tcontinue;\n\t\tlen =", [
        ("blocks behind the end", "if (kind == OPT_NOP)\n\t\t\tcontinue;\n\t\tlen ="),
        ("NOP is an option", "if (kind == OPT_END)\n\t\t\tbreak;\n\t\tlen =")]),
    ("if (len < 2 || !cursor_take(&c, len - 2u))", [("blocks that are not there", "if (len < 2)")]),
    ("return (uint8_t)((len - 2) / SACK_BLOCK);", [
        ("kind and length are a block", "return (uint8_t)((len + 6) / SACK_BLOCK);"),
        ("edges, not blocks", "return (uint8_t)((len - 2) / 4);")]),
]

FILTERS_PIECES = [
    # slot_has, filters_use
    ("slot->log == log && slot->octets == n && !memcmp(slot->text, text, n);", [
        ("a beginning is the same expression", "slot->log == log && !memcmp(slot->text, text, n);"),
        ("those with pseudonyms share a slot", "slot->octets == n && !memcmp(slot->text, text, n);")]),
    ("f->users[i]++;\n\t\t\treturn (int)i;", [("who shares a slot is not counted", "return (int)i;")]),
    ("mine += f->where[i] && f->slots[i].uid == uid;", [
        ("anyone's expressions count", "mine += !!f->where[i];"),
        ("what was released counts", "mine += f->slots[i].uid == uid;")]),
    ("if (empty == FILTER_SLOTS || mine >= FILTERS_PER_UID) {", [
        ("one expression too many of a user", "if (empty == FILTER_SLOTS || mine > FILTERS_PER_UID) {")]),
    ("return empty == FILTER_SLOTS ? -ENOSPC : -EDQUOT;", [("it is always the user's limit", "return -EDQUOT;")]),
    (".since_seq = seq, .log = log,", [
        ("bits of an older expression", ".log = log,"),
        ("the last line before it has a bit", ".since_seq = seq - 1, .log = log,")]),
    # filters_resume
    ("if (i >= FILTER_SLOTS || slot->log != log || slot->octets > WHERE_TEXT_MAX)", [
        ("the slot of another log is sound", "if (i >= FILTER_SLOTS || slot->octets > WHERE_TEXT_MAX)")]),
    ("if (f->where[i])\n\t\tf->users[i]++;", [("who resumes a shared slot is not counted", "if (f->where[i])\n;")]),
    # filters_release
    ("if (i >= FILTER_SLOTS || --f->users[i])", [
        ("the first who leaves frees the slot", "if (i >= FILTER_SLOTS)"),
        ("a slot is never free", "if (true)")]),
    ("f->active[f->slots[i].log] &= ~(UINT64_C(1) << i);", [("a free slot is evaluated", "")]),
]

LINELOG_PIECES = [
    # linelog_wants
    ("if (m.kind == LINE_LOST || m.kind == LINE_RESTART)", [("a loss is only for who asks", "if (false)")]),
    ("if (!m.endpoints && !(want->kinds >> m.kind & 1))", [
        ("any kind is wanted", "if (false)"),
        ("segments are one of the kinds", "if (!(want->kinds >> m.kind & 1))")]),
    ("if (m.seq >= l->filters->slots[want->filter].since_seq)", [
        ("bits of lines before the expression", "if (true)"),
        ("each line is parsed", "if (false)")]),
    # linelog_pass
    ("if (m->endpoints || always >> m->kind & 1)", [("losses and segments are passed over", "if (false)")]),
    ("(want->filter == FILTER_NONE || m->bits & bits || m->seq < since)", [
        ("lines before the expression are passed over", "(want->filter == FILTER_NONE || m->bits & bits)")]),
]

SUBSCRIBER_PIECES = [
    # finish_line, keep_oldest, lose_lines
    ("lose_all(cursor, l, had_lost ? line : keep_oldest(record, l, line), seq_now);", [
        ("drop_newest keeps nothing", "lose_all(cursor, l, line, seq_now);")]),
    ("if (!cursor->lost_first || seq + 1 < cursor->lost_first)", [
        ("the first lost one is the last", "if (true)")]),
    ("cursor->lost_count += last - seq;", [("each loss is one event", "cursor->lost_count++;")]),
    ("if (cursor->want.policy == POLICY_DISCONNECT &&\n\t    (cursor->lost_count || cursor->lost_segments)) {", [
        ("it is disconnected though it lost nothing", "if (cursor->want.policy == POLICY_DISCONNECT) {"),
        ("it is not disconnected", "if (false) {")]),
    ("lose_all(cursor, l, to, seq_now);\n\t\tdisconnect", [
        ("the rest is not counted", "disconnect")]),
    ("cursor->closing = true;", [("it stays connected", "")]),
]
