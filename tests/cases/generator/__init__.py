"""All files of cases."""

from . import addresses, down, entries, forward, full_table, malformed, not_ours, quic, reverse, segments, split, unanswered

BOOKS = [
    forward.tcp_book(), forward.udp_book(),
    reverse.book(), reverse.gateway_book(), reverse.routes_book(), reverse.rules_book(),
    addresses.echo_book(), addresses.arp_book(), addresses.service_book(),
    malformed.book(), not_ours.book(), split.book(),
    down.book(), entries.book(), segments.book(), quic.book(), full_table.book(),
    unanswered.ports_book(), unanswered.expired_book(), unanswered.fragments_book(), unanswered.icmp_book(), unanswered.sizes_book(),
]
