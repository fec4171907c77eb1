"""All files of cases."""

from . import addresses, answers, down, entries, errors, forward, full_table, malformed, not_ours, pieces, quic, reverse, segments, split

BOOKS = [
    forward.tcp_book(), forward.udp_book(),
    reverse.book(), reverse.gateway_book(), reverse.routes_book(), reverse.rules_book(),
    addresses.echo_book(), addresses.arp_book(), addresses.service_book(),
    malformed.book(), not_ours.book(), split.book(),
    down.book(), entries.book(), segments.book(), quic.book(), full_table.book(),
    answers.ports_book(), answers.expired_book(), answers.sizes_book(), pieces.fragments_book(), errors.icmp_book(),
]
