//! Cells: log records added up in memory, to be added to the roll-ups together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::facet::{Dims, FACETS, Grain};
use super::measures::Sums;

/// What of a log record roll-ups take.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) created_at: i64,
    pub(super) master_id: i64,
    pub(super) key_id: i64,
    /// 0 where the call reached none; so is the API key.
    pub(super) group_id: i64,
    pub(super) api_key_id: i64,
    pub(super) model: Arc<str>,
    pub(super) latency_bin: i64,
    pub(super) sums: Sums,
}

/// Which row of the roll-ups: in the order of their primary key, in which they are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) facet: i64,
    pub(super) grain: i64,
    pub(super) master_id: i64,
    pub(super) at: i64,
    pub(super) key_id: i64,
    pub(super) group_id: i64,
    pub(super) api_key_id: i64,
    pub(super) model: Arc<str>,
}

/// What is to be added to the roll-ups. Records are added up by the finest grain of each facet alone; coarser ones are made
/// of that at the end.
#[derive(Debug)]
pub(super) struct Cells {
    none: Arc<str>,
    sums: HashMap<Place, Sums>,
    latencies: HashMap<(Place, i64), i64>,
}

impl Cells {
    pub(super) fn new() -> Self {
        Self { none: Arc::from(""), sums: HashMap::new(), latencies: HashMap::new() }
    }

    /// About how many rows the roll-ups are to change, in all grains.
    pub(super) fn rows(&self) -> usize {
        3 * (self.sums.len() + self.latencies.len())
    }

    pub(super) fn add(&mut self, record: &Counted) {
        let hour = Grain::Hour.floor(record.created_at);
        let day = Grain::Day.floor(record.created_at);
        for facet in &FACETS {
            let keeps = |dim: Dims, value: i64| if facet.dims.holds(dim) { value } else { 0 };
            let (grain, at) = if facet.has_hours { (Grain::Hour, hour) } else { (Grain::Day, day) };
            let place = Place {
                facet: facet.dims.number(),
                grain: grain.number(),
                master_id: keeps(Dims::MASTER, record.master_id),
                at,
                key_id: keeps(Dims::KEY, record.key_id),
                group_id: keeps(Dims::GROUP, record.group_id),
                api_key_id: keeps(Dims::API_KEY, record.api_key_id),
                model: if facet.dims.holds(Dims::MODEL) { &record.model } else { &self.none }.clone(),
            };
            if facet.has_latencies {
                *self.latencies.entry((place.clone(), record.latency_bin)).or_default() += 1;
            }
            self.sums.entry(place).or_default().add(&record.sums);
        }
    }

    /// All rows, in the order that every process writes them in, so that none waits for another in a circle.
    pub(super) fn into_rows(self) -> (BTreeMap<Place, Sums>, BTreeMap<(Place, i64), i64>) {
        let mut sums: BTreeMap<Place, Sums> = BTreeMap::new();
        for (place, added) in self.sums {
            for coarse in coarser(&place) {
                sums.entry(coarse).or_default().add(&added);
            }
            sums.entry(place).or_default().add(&added);
        }
        let mut latencies: BTreeMap<(Place, i64), i64> = BTreeMap::new();
        for ((place, bin), added) in self.latencies {
            for coarse in coarser(&place) {
                *latencies.entry((coarse, bin)).or_default() += added;
            }
            *latencies.entry((place, bin)).or_default() += added;
        }
        (sums, latencies)
    }
}

/// The rows of longer times that a row is part of.
fn coarser(place: &Place) -> impl Iterator<Item = Place> {
    let grains = [Grain::Day, Grain::Month].into_iter().filter(|grain| grain.number() > place.grain);
    grains.map(|grain| Place { grain: grain.number(), at: grain.floor(place.at), ..place.clone() })
}
