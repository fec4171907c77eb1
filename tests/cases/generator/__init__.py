"""All files of cases."""

from . import addresses, answers, direct, down, entries, errors, forward, full_table, malformed, not_ours, pieces, quic, reverse, segments, six_answers, six_traffic, split, translated, tunnels

BOOKS = [
    forward.tcp_book(), forward.udp_book(),
    reverse.book(), reverse.gateway_book(), reverse.routes_book(), reverse.rules_book(),
    addresses.echo_book(), addresses.arp_book(), addresses.service_book(),
    malformed.book(), not_ours.book(), split.book(),
    down.book(), entries.book(), segments.book(), quic.book(), full_table.book(),
    six_traffic.forward_book(), six_traffic.reverse_book(), six_traffic.headers_book(), six_traffic.fragments_book(),
    six_traffic.not_ours_book(), six_answers.answers_book(), six_answers.neighbours_book(), six_answers.icmp_book(),
    six_answers.sizes_book(), six_answers.exceptions_book(),
    direct.four_book(), direct.six_book(), tunnels.four_book(), tunnels.six_book(), tunnels.four_in_six_book(),
    translated.four_book(), translated.four_errors_book(), translated.four_full_book(), translated.six_book(), translated.six_full_book(),
    answers.ports_book(), answers.expired_book(), answers.sizes_book(), pieces.fragments_book(), errors.icmp_book(),
]
