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
    ("if (i == INSTANCES)\n\t\treturn count_copy(t, true);", [
        ("a fifth is only a copy", "if (i == INSTANCES)\n\t\treturn count_copy(t, false);")]),
    ("if (!set_owner(t, k, s->iface))\n\t\t\treturn count_copy(t, true);", [
        ("without a number both origins count", "set_owner(t, k, s->iface);")]),
    ("if (sender == known.client_end && known.isn == quoted->seq) {", [
        ("an ICMP error is about the first instance", "if (sender == known.client_end) {")]),
]
