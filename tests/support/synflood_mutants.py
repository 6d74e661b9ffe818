"""What mutants.py breaks in lib/flow/synflood.c, deferral.c and close.c: as segment_check_mutants.py."""

PIECES = [
    # server_find
    ("w->ip_v == s->ip_v && !memcmp(w->w, s->w, sizeof s->w)", [
        ("any server of the hash", "w->ip_v == s->ip_v")]),
    # unwatch
    ("relink(d, last, (uint8_t)(i + 1));", [("the last one keeps its place", ";")]),
    ("relink(d, i, m->slot[i].next);", [("others of its hash are forgotten", "relink(d, i, 0);")]),
    # window_bad
    ("return stayed && stayed * 4 >= came && stayed * second_ns >= d->cfg.rate * took;", [
        ("no share", "return stayed && stayed * second_ns >= d->cfg.rate * took;"),
        ("no rate", "return stayed && stayed * 4 >= came;"),
        ("always", "return true;"), ("never", "return false;")]),
    ("uint64_t stayed = came > completed ? came - completed : 0;", [
        ("what went on stays", "uint64_t stayed = came; (void)completed;")]),
    # series_update
    ("s->calm_ns = s->window_ns;", [("never calm", "s->calm_ns = UINT64_MAX;")]),
    ("if (!calm)\n\t\ts->calm_ns = UINT64_MAX;", [
        ("calm for good", "if (!calm && s->calm_ns == UINT64_MAX)\n\t\ts->calm_ns = UINT64_MAX;")]),
    ("bool calm = !bad && s->deferred <= d->limit / 2;", [
        ("calm though many are deferred", "bool calm = !bad;"),
        ("calm though they do not go on", "bool calm = s->deferred <= d->limit / 2;")]),
    ("calm && now_ns - s->calm_ns >= SYNFLOOD_CALM_NS", [
        ("over at once", "calm"), ("never over", "false")]),
    ("now_ns - s->line_ns >= d->cfg.interval_ns", [
        ("an update each second", "true"), ("no update", "false")]),
    # window_judge
    ("bad && d->cfg.half_open && s->deferred > d->limit", [
        ("a flood of few", "bad && d->cfg.half_open"),
        ("a flood of those that go on", "d->cfg.half_open && s->deferred > d->limit")]),
    # synflood_tick
    ("if (!s->reported && !s->deferred && waiting[s->server.hash] <= d->from)", [
        ("a server with deferred attempts is forgotten", "if (!s->reported)")]),
    # synflood_end
    ("series_end(server_edit(d, &m->slot[*at]), now_ns, ret);\n\t\treturn true;", [
        ("no end at the end", "server_edit(d, &m->slot[*at])->reported = false;\n"
         "\t\tret->phase = SYNFLOOD_PHASES;\n\t\treturn true;")]),
    # synflood_defers
    ("waiting > d->from ? server_find(d, s) : NULL", [
        ("deferred below the mark", "server_find(d, s)")]),
    # synflood_is_late
    ("if (!w || !w->reported)\n\t\treturn false;\n\t++*count_edit(d, w, SYNFLOOD_LATE);", [
        ("late answers begin connections",
         "if (w || !w)\n\t\treturn false;\n\t++*count_edit(d, w, SYNFLOOD_LATE);"),
        ("answers of honest servers begin nothing",
         "if (!w)\n\t\treturn false;\n\t++*count_edit(d, w, SYNFLOOD_LATE);")]),
    # synflood_has
    ("return w->reported || start_ns < w->ended_ns;", [
        ("all are of a flood", "return true;"), ("none is", "return false;")]),
]

DEFERRAL_PIECES = [
    # deferral_begin
    ("f->c->offer.mss_client = f->c->offer.mss;", [("no mss of its own", ";")]),
    # deferral_report
    ("f->c->state = FSM_SYN;\n", [("the open shows what came later", "")]),
    ("if (at == FSM_ANSWERED) {", [
        ("no state behind a late open", "if (false) {")]),
    # deferral_count_of
    ("return SYNFLOOD_REPLACED;", [("replaced is expired", "return SYNFLOOD_EXPIRED;")]),
    ("return SYNFLOOD_EVICTED;", [("evicted is expired", "return SYNFLOOD_EXPIRED;")]),
    # deferral_moves
    ("if (to == FSM_ANSWERED && s->flags & TCP_SYN) {", [
        ("an ACK of the server's is an answer", "if (to == FSM_ANSWERED) {"),
        ("an answer ends it", "if (false) {")]),
    ("if (fsm_over(to))\n\t\treturn deferral_ends(t, f, SYNFLOOD_REFUSED);", [
        ("a refusal is reported", "")]),
    # deferral_overdue
    ("return entry_deferred(t, r) &&\n"
     "\t       table_syn(&t->table, r)->start_ns + DEFERRAL_NS <= t->now_ns;", [
        ("deferred for good", "return false;"), ("let go at once", "return entry_deferred(t, r);")]),
    # deferral_expire
    ("if (deferral_tell(t, f))\n\t\tdeferral_save(t, f);", [
        ("reported twice", "deferral_tell(t, f);"),
        ("reported, with its mss in the place of a time",
         "if (deferral_tell(t, f))\n"
         "\t\ttable_edit(&t->table, f->ref).syn->deferred = 0;")]),
]

# The short way by which one that is deferred ends.
CLOSE_PIECES = [
    # close_deferred
    ("!e->deferred || e->rivalled", [("one that was reported is dropped", "e->rivalled"),
                                     ("a contested one is dropped", "!e->deferred")]),
    ("!deferral_absorbs(t, &w->server, e->start_ns, deferral_count_of(reason))", [
        ("all that are deferred are dropped",
         "(deferral_absorbs(t, &w->server, e->start_ns, deferral_count_of(reason)), false)")]),
    ("e->syn_acks ? FSM_ANSWERED : FSM_SYN", [("one that was answered was not", "FSM_SYN")]),
]
