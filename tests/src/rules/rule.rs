//! The rules by name: a world can leave out one of them, and then some history must go wrong.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

rules! {
    // Changes and settling.
    /// A change moves `current` only, never `home`.
    ChangeMovesCurrentOnly,
    /// The time to idle begins with the change, whatever was seen before.
    ChangeBeginsWaiting,
    /// Stamps are taken before it is decided what settles.
    StampsTakenBeforeSettling,
    /// Where segments agree about a bucket its stamps lie with the first one, and count for all.
    StampsOfFirstSegmentCountForAll,
    /// Nothing settles within 4 s of a deferred SYN.
    NoSettlingAfterDeferral,
    /// After pinning for `idleTimeout`, and not sooner, `home` becomes `current` whatever was seen.
    PinningLastsIdleTimeout,
    /// A pin that found no place begins the pinning anew.
    RefusedPinBeginsAnew,
    /// `home` never becomes a version that is turned off: new flows go to the stable one, without an entry where that is home.
    TurnedOffVersionSettlesNot,
    /// What was not stamped while a version was turned off counts as seen when it is turned on again.
    ClearedLatchBeginsWaiting,

    // What a packet without an entry stamps.
    /// The bucket.
    StampOfBucket,
    /// The slot.
    StampOfSlot,
    /// The source prefix.
    StampOfPrefix,

    // SYNs.
    /// A choice that is not the default needs an entry.
    ChoiceNeedsEntry,
    /// A SYN of a 5-tuple that has an entry needs another.
    SynOfHeldFlowNeedsEntry,
    /// A SYN that goes to the default by cells that are not settled needs an entry: the default may move before its flow's
    /// next packet. It happens with a version that stands in for another, and with segments.
    UnsettledDefaultNeedsEntry,
    /// A SYN without a place for its entry goes by default.
    DeferredSynGoesByDefault,
    /// … or by the entry that its 5-tuple has.
    DeferredSynGoesByEntry,
    /// … which then lives on as if it were new.
    DeferredSynRestoresEntry,
    /// … and stamps.
    DeferredSynStamps,
    /// … and is dropped where that backend is down or its version turned off.
    DeferredSynSparesDownBackend,
    /// A repeated SYN goes where the first one went.
    RepeatedSynFollowsFirst,
    /// … unless that backend is down or its version turned off.
    RepeatedSynLeavesDownBackend,

    // Completion.
    /// An older entry of the same 5-tuple stays until a handshake is complete: a blind SYN detaches nobody.
    EntryReplacedByCompletionOnly,
    /// The completed entry takes the place of the older one.
    CompletionReplacesEntry,
    /// Only numbers that fit complete a handshake.
    CompletionNeedsNumbers,
    /// … those of a SYN-ACK included.
    CompletionNeedsSynAck,
    /// … which must come from the entry's backend.
    SynAckOfItsBackend,

    // Life of entries.
    /// A live entry is never evicted.
    LiveEntriesStay,
    /// An entry lives for `idleTimeout` after its flow's last packet.
    EntryLivesIdleTimeout,
    /// FIN of one side ends nothing.
    OneFinEndsNothing,
    /// Data after FIN or RST restores the entry's life.
    DataRestoresClosing,
    /// An entry that equals the default goes only where bucket and slot are settled.
    NeedlessOnlyWhereSettled,
    /// … in all segments.
    NeedlessInAllSegments,

    // Looking.
    /// A settled cell looks until a sweep that began 4 s after it came to rest found nothing.
    LookUntilLaterSweep,
    /// Where segments differ and one depends on the DSCP, buckets look for good.
    DscpSegmentLooksForGood,
    /// While a canary instance runs, buckets look.
    InstanceLooksForGood,
    /// While a version stands in for one without backends, the slots of that one look.
    FailoverLooksForGood,
    /// Buckets of a version that is turned off look, until a sweep after it was turned on again.
    TurnedOffVersionLooks,
    /// A bucket of a version that is turned off is not settled, for every packet from then on.
    TripUnsettles,

    // Who gets no new flow.
    /// A backend that is down leaves the current slots.
    DownBackendLeavesSlots,
    /// New flows of a version that is turned off go to the stable one.
    GuardTurnsNewFlows,
    /// … and those of a canary instance, which is one of that version's backends.
    GuardTurnsInstance,
    /// The client of a backend that is down is answered with RST.
    DownBackendResets,
    /// A removed backend stays until nothing refers to it.
    RemovedBackendDrains,

    // DSCP and UDP.
    /// The DSCP counts on SYNs only.
    DefaultIgnoresDscp,
    /// A pin counts for good only once the backend answers.
    PinWaitsForAnswer,
    /// … by something else than RST.
    RstConfirmsNoPin,
    /// UDP: after a change all flows resolve by home and are pinned for a while.
    LearningWindow,
}
