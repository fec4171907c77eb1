//! Reading the counters: per-CPU values, summed.

use std::{ops::AddAssign, path::Path};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use grayxdp_common::{
    counters::{BackendCounters, ReasonCounters},
    maps,
    reason::Reason,
    signals::ExceptionCounters,
};

use crate::model::kernel::{BackendId, Counters, KernelError, ServiceId};

/// The counter maps.
pub(super) struct CounterMaps {
    backends: PerCpuArray<MapData, BackendCounters>,
    reasons: PerCpuArray<MapData, ReasonCounters>,
    exceptions: PerCpuArray<MapData, ExceptionCounters>,
}

impl CounterMaps {
    /// Opens the pinned maps.
    pub(super) fn open(folder: &Path) -> Result<Self, KernelError> {
        let open = |name: &str| MapData::from_pin(folder.join(name)).map(Map::PerCpuArray).map_err(|e| failed(&e));
        Ok(Self {
            backends: open(maps::COUNTERS)?.try_into().map_err(|e| failed(&e))?,
            reasons: open(maps::REASONS)?.try_into().map_err(|e| failed(&e))?,
            exceptions: open(maps::EXCEPTION_COUNTERS)?.try_into().map_err(|e| failed(&e))?,
        })
    }

    /// Sums over all CPUs.
    pub(super) fn read(
        &self,
        backends: impl Iterator<Item = BackendId>,
        services: impl Iterator<Item = ServiceId>,
    ) -> Result<Counters, KernelError> {
        let mut counters = Counters::default();
        for id in backends {
            let values = self.backends.get(&u32::from(id.0), 0).map_err(|e| failed(&e))?;
            counters.backends.insert(id, sum::<BackendCounters>(&values));
        }
        for id in services {
            let values = self.reasons.get(&u32::from(id.0), 0).map_err(|e| failed(&e))?;
            let of_reasons: ReasonCounters = sum(&values);
            for reason in Reason::ALL {
                let count = of_reasons.0[reason.index()];
                if count > 0 {
                    counters.reasons.insert((id, *reason), count);
                }
            }
            if id != ServiceId::NONE {
                let values = self.exceptions.get(&u32::from(id.0), 0).map_err(|e| failed(&e))?;
                counters.exceptions.insert(id, sum::<ExceptionCounters>(&values));
            }
        }
        Ok(counters)
    }

    /// Sets a backend's counters to zero, before its id is given to another.
    pub(super) fn clear(&mut self, id: BackendId) -> Result<(), KernelError> {
        let cpus =
            aya::util::nr_cpus().map_err(|(_, error)| KernelError(format!("CPUs cannot be counted: {error}")))?;
        let zeros = aya::maps::PerCpuValues::try_from(vec![BackendCounters::default(); cpus])
            .map_err(|error| KernelError(error.to_string()))?;
        self.backends.set(u32::from(id.0), zeros, 0).map_err(|e| failed(&e))
    }
}

/// Over all CPUs.
fn sum<T: Default + Copy + AddAssign>(of_cpus: &[T]) -> T {
    of_cpus.iter().fold(T::default(), |mut sum, of_cpu| {
        sum += *of_cpu;
        sum
    })
}

fn failed(error: &MapError) -> KernelError {
    KernelError(format!("the kernel's counters cannot be read: {error}"))
}
