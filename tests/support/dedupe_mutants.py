"""What mutants.py breaks in lib/flow/dedupe.c: as segment_check_mutants.py."""

PIECES = [
    ("c.unowned = s->flags & TCP_ACK && c.distance <= answer_range;", [
        ("any old segment owns the answers", "c.unowned = true;")]),
    ("if (!found || found->over > k->over ||\n", [
        ("one that is over is as good", "if (!found ||\n")]),
    ("k = best(&c, is_named_and_owned) ?: best(&c, is_named);", [
        ("ISNs do not matter", "k = NULL;")]),
    ("if (!again && !k->owned) {", [
        ("nothing is a copy", "if (false) {")]),
    ("if (!k->unowned && !is_moved(t, &c, k, s))", [
        ("routes do not change", "if (!k->unowned)")]),
    ("return live == 1 && !k->over", [
        ("a route changes with two connections", "return !k->over")]),
    ("\tif (s->flags & TCP_RST)\n\t\treturn s->seq == next;", [
        ("any RST moves the route", "\tif (s->flags & TCP_RST)\n\t\treturn true;")]),
    ("(s->payload_len > 1 || s->flags & TCP_FIN)", [
        ("a window probe moves the route", "true")]),
    ("if (!(s->flags & TCP_ACK) || is_later(s->ack, k->next[!from]))", [
        ("an ACK of anything moves the route", "if (!(s->flags & TCP_ACK))")]),
    ("s->flags & TCP_SYN || is_later(s->seq, next))", [
        ("a gap may be before", "s->flags & TCP_SYN)")]),
    ("if (i == INSTANCES)\n\t\treturn count_copy(t, true);", [
        ("a fifth is only a copy", "if (i == INSTANCES)\n\t\treturn count_copy(t, false);")]),
    ("if (!set_owner(t, k, s->iface))\n\t\t\treturn count_copy(t, true);", [
        ("without a number both origins count", "set_owner(t, k, s->iface);")]),
    ("if (sender == known.client_end && known.isn == quoted->seq) {", [
        ("an ICMP error is about the first instance", "if (sender == known.client_end) {")]),
]
