//! The kernel side: loading, adopting, publishing, counting, next hops. The only place that knows aya.
