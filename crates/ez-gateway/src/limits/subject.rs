//! What is counted of one key or one master: a cell per limit, behind a lock that is held for moments and never across
//! an await.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ez_state::{LimitAsk, LimitGrant};
use tokio::sync::Notify;

use super::limit::{Limit, Scope};
use super::rules::Rule;

/// After the shared counter had no more to give, it is not asked again for this long, milliseconds.
const RETRY_MS: i64 = 250;

/// A slice of at least this size is renewed before it is used up; smaller ones are fetched when needed, so that what is
/// scarce does not lie about unused.
const PREFETCHED_SLICE: u64 = 8;

/// How many times what was used since the last look is kept for the time until the next.
const KEPT_FOR_NEXT: u64 = 2;

/// A key or master with its cells.
pub(super) struct Subject {
    pub(super) scope: Scope,
    pub(super) id: i64,
    cells: Mutex<Vec<Cell>>,
    /// Told when the background has leased more, or failed to.
    pub(super) changed: Notify,
    /// Whether the background has been asked to look at it.
    pub(super) is_queued: AtomicBool,
}

/// How cells find out what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// This gateway counts alone.
    Exact,
    /// From slices of the shared counter.
    Leased,
    /// The shared counter cannot be asked: each of so many gateways takes its equal share.
    Alone { gateways: u64 },
}

/// The count of one limit in one window.
#[derive(Debug)]
pub(super) struct Cell {
    limit: Limit,
    period: i64,
    /// Settled and reserved.
    used: u64,
    /// What the ledger said when counting began; counted apart from `used`.
    seed: u64,
    /// Leased, used and unused.
    granted: u64,
    generation: u64,
    /// What all gateways hold, as last told.
    taken: u64,
    /// To be leased besides.
    wanted: u64,
    /// What the last lease added.
    slice: u64,
    /// Whether unused leases are to go back.
    gives_back: bool,
    /// Unix milliseconds: when the shared counter last had less than was wanted, when what is leased counts no longer,
    /// when this last was told, when a call last used it.
    dry_at: i64,
    leased_until: i64,
    told_at: i64,
    used_at: i64,
    /// What was used when the shared counter last heard of it.
    told: u64,
    /// When counting began, Unix milliseconds: tells this count from one that was forgotten before.
    begun_at: i64,
    /// What was used when this was last looked through.
    used_before: u64,
    /// What does not go back with the rest.
    kept: u64,
    /// As the last call found them.
    figure: u64,
    ledger: u64,
}

/// Whether a call fits into a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does, with so much reserved.
    Yes(u64),
    /// Nothing is left; so much is.
    No { left: u64 },
    /// Not into what is leased: more must be asked for.
    Unknown,
}

impl Subject {
    pub(super) fn new(scope: Scope, id: i64) -> Self {
        Self { scope, id, cells: Mutex::default(), changed: Notify::new(), is_queued: AtomicBool::new(false) }
    }

    pub(super) fn cells(&self) -> MutexGuard<'_, Vec<Cell>> {
        // Nothing in a locked section panics half-way, so a poisoned lock guards whole cells.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name of a cell's counter in the shared state.
    pub(super) fn counter(&self, cell: &Cell) -> String {
        let scope = match self.scope {
            Scope::Key => 'k',
            Scope::Master => 'm',
        };
        format!("{scope}{}:{}:{}", self.id, cell.limit.as_str(), cell.period)
    }
}

/// The cell of a rule, in the rule's window; in the next one where other calls are there already, as that of a call which
/// waited at the border must not begin the count anew for all.
pub(super) fn cell_of<'c>(cells: &'c mut Vec<Cell>, rule: &Rule, now_ms: i64) -> &'c mut Cell {
    let at = match cells.iter().position(|cell| cell.limit == rule.limit) {
        Some(at) => at,
        None => {
            cells.push(Cell::new(rule, now_ms));
            cells.len() - 1
        }
    };
    let cell = &mut cells[at];
    if cell.is_after(rule, now_ms) {
        return cell;
    }
    if cell.period != rule.period {
        *cell = Cell::new(rule, now_ms);
    }
    cell.figure = rule.figure;
    // What a month cost only grows: the control plane tells of one month, which may be another gateway's next already.
    let least = if rule.limit == Limit::Budget { cell.ledger } else { 0 };
    cell.ledger = rule.ledger.max(least);
    cell
}

impl Cell {
    fn new(rule: &Rule, now_ms: i64) -> Self {
        Self {
            limit: rule.limit,
            period: rule.period,
            used: 0,
            seed: rule.ledger,
            granted: 0,
            generation: 0,
            taken: rule.ledger,
            wanted: 0,
            slice: 0,
            gives_back: false,
            dry_at: 0,
            leased_until: 0,
            told_at: 0,
            used_at: 0,
            told: 0,
            begun_at: now_ms,
            used_before: 0,
            kept: 0,
            figure: rule.figure,
            ledger: rule.ledger,
        }
    }

    pub(super) fn limit(&self) -> Limit {
        self.limit
    }

    pub(super) fn period(&self) -> i64 {
        self.period
    }

    /// Whether this is the period after the rule's. A quota's is where the rule is of a snapshot from before its reset.
    fn is_after(&self, rule: &Rule, now_ms: i64) -> bool {
        match rule.limit {
            Limit::Concurrency => false,
            Limit::Quota => rule.has_ended(now_ms) && self.period > rule.period,
            _ => self.period == rule.period + 1,
        }
    }

    /// Whether the call of this rule fits. Notes what to lease where that is not known.
    pub(super) fn fit(&mut self, rule: &Rule, mode: Mode, now_ms: i64) -> Fit {
        let left = self.left(mode, now_ms);
        if left >= rule.amount && left > 0 {
            return Fit::Yes(rule.amount);
        }
        let has_more = self.ledger < self.figure && self.figure > 0;
        if mode == Mode::Leased && has_more && now_ms - self.dry_at >= RETRY_MS {
            self.wanted = self.wanted.saturating_add(rule.amount.max(1) - left.min(rule.amount));
            return Fit::Unknown;
        }
        // Quota and budget serve calls as long as anything is left of them.
        if rule.limit.has_ledger() && left > 0 { Fit::Yes(left) } else { Fit::No { left } }
    }

    /// What calls may still take here.
    fn left(&self, mode: Mode, now_ms: i64) -> u64 {
        let unledgered = self.figure.saturating_sub(self.ledger);
        match mode {
            Mode::Exact => self.figure.saturating_sub(self.ledger.max(self.seed.saturating_add(self.used))),
            Mode::Leased if now_ms >= self.leased_until => 0,
            Mode::Leased => self.granted.saturating_sub(self.used).min(unledgered),
            Mode::Alone { gateways } => {
                let share = (unledgered / gateways.max(1)).max(1);
                self.granted.max(share).saturating_sub(self.used).min(unledgered)
            }
        }
    }

    /// What calls may still take as far as this gateway knows, on all gateways together.
    pub(super) fn remaining(&self, mode: Mode, now_ms: i64) -> u64 {
        let left = self.left(mode, now_ms);
        match mode {
            Mode::Leased => self.figure.saturating_sub(self.taken).saturating_add(left).min(self.figure),
            Mode::Exact | Mode::Alone { .. } => left,
        }
    }

    pub(super) fn take(&mut self, amount: u64, now_ms: i64) {
        self.used = self.used.saturating_add(amount);
        self.note_in_use(now_ms);
    }

    /// Notes that a call takes of it, or holds a part of it that is not settled.
    pub(super) fn note_in_use(&mut self, now_ms: i64) {
        self.used_at = self.used_at.max(now_ms);
    }

    /// Whether the slice nears its end and another should be fetched; asks for it.
    pub(super) fn runs_low(&mut self, now_ms: i64) -> bool {
        let unused = self.granted.saturating_sub(self.used);
        let is_low = self.slice >= PREFETCHED_SLICE && unused < self.slice / 4 && self.wanted == 0;
        let may_ask = is_low && now_ms - self.dry_at >= RETRY_MS && self.taken < self.figure;
        if may_ask {
            self.wanted = 1;
        }
        may_ask
    }

    /// Replaces what was reserved by what was used.
    pub(super) fn settle(&mut self, reserved: u64, used: u64) {
        self.used = self.used.saturating_sub(reserved).saturating_add(used);
    }

    /// Marks what is unused to go back.
    pub(super) fn give_back(&mut self) {
        self.gives_back = true;
        self.kept = 0;
    }

    /// Whether freed slots are wanted elsewhere; they go back at once then.
    pub(super) fn yields(&mut self) -> bool {
        let is_scarce = self.granted > 0 && self.taken.saturating_mul(4) >= self.figure.saturating_mul(3);
        if is_scarce {
            self.give_back();
        }
        is_scarce
    }

    /// Looks through, once in a while: what is leased and not needed until the next time goes back, as another gateway
    /// may need it. Whether the shared counter is to hear of this cell.
    pub(super) fn look_through(&mut self, now_ms: i64) -> bool {
        let recent = self.used.saturating_sub(self.used_before);
        self.used_before = self.used;
        self.kept = recent.saturating_mul(KEPT_FOR_NEXT);
        let unused = self.granted.saturating_sub(self.used);
        let is_much = unused > self.kept.saturating_mul(2);
        self.gives_back |= is_much && now_ms < self.leased_until;
        self.is_due(now_ms)
    }

    /// Whether the shared counter is to hear of it.
    fn is_due(&self, now_ms: i64) -> bool {
        if self.gives_back || self.wanted > 0 {
            return true;
        }
        if self.is_over(now_ms) {
            return false;
        }
        let alive_ms = i64::try_from(self.limit.alive_for().as_millis()).unwrap_or(i64::MAX);
        // What is granted counts only while this gateway is heard of. What was used of it must be known before, unless its
        // window ends sooner.
        let outlasts = self.limit.window_seconds().is_none_or(|seconds| seconds.saturating_mul(1_000) > alive_ms);
        let holds = self.granted > self.used || (outlasts && self.told != self.used);
        let is_in_flight = self.limit == Limit::Concurrency && self.used > 0;
        // Nobody else knows of what was used beyond what is granted, as while this gateway was on its own.
        self.used > self.granted || ((holds || is_in_flight) && now_ms - self.told_at >= alive_ms / 3)
    }

    /// Whether its window has passed.
    pub(super) fn is_over(&self, now_ms: i64) -> bool {
        let window = self.limit.window_seconds();
        window.is_some_and(|seconds| now_ms.div_euclid(1_000).div_euclid(seconds) > self.period)
    }

    /// Whether nothing is lost by forgetting it: its window has passed, nothing is in flight, or the ledger has had it all
    /// for long, and the shared counter as well. `ledgered_ms` is the time (Unix milliseconds) up to which the control
    /// plane has this gateway's records.
    pub(super) fn is_forgettable(&self, now_ms: i64, ledgered_ms: i64) -> bool {
        const FORGOTTEN_AFTER_MS: i64 = 3_600_000;
        match self.limit {
            Limit::Concurrency => self.used == 0 && self.granted == 0,
            Limit::Quota | Limit::Budget => {
                let is_leased = self.generation != 0;
                let is_shared = self.told == self.used && self.granted <= self.used;
                ledgered_ms.min(now_ms).saturating_sub(self.used_at) >= FORGOTTEN_AFTER_MS && (is_shared || !is_leased)
            }
            _ => self.is_over(now_ms),
        }
    }

    /// What to tell the shared counter, if there is anything to tell.
    pub(super) fn ask(&mut self, counter: impl FnOnce(&Self) -> String, now_ms: i64) -> Option<LimitAsk> {
        // A call that came before the border may wait for more of the window behind it, where it counts.
        let is_waited_for = self.wanted > 0;
        if !self.is_due(now_ms) || (self.is_over(now_ms) && !is_waited_for) {
            self.gives_back = false;
            return None;
        }
        if std::mem::take(&mut self.gives_back) {
            self.granted = self.granted.min(self.used.saturating_add(self.kept));
        }
        Some(LimitAsk {
            counter: counter(self),
            generation: self.generation,
            // The others are forgotten only when nothing is left to remember.
            begun: if self.limit.has_ledger() { self.begun_at.unsigned_abs() } else { 0 },
            used: self.used,
            granted: self.granted,
            wanted: std::mem::take(&mut self.wanted),
            limit: self.figure,
            ledger: self.ledger,
            outlives: self.limit != Limit::Concurrency,
            alive_for: self.limit.alive_for(),
            kept_for: self.limit.kept_for(),
        })
    }

    /// Takes the answer to what was asked at `asked_ms`; calls may have used more meanwhile.
    pub(super) fn granted(&mut self, ask: &LimitAsk, grant: &LimitGrant, asked_ms: i64) {
        self.told = ask.used;
        if self.generation != 0 && self.generation != grant.generation && ask.ledger > 0 {
            self.used = self.used.saturating_sub(ask.used);
            self.told = 0;
        }
        let before = if self.generation == grant.generation { ask.granted.max(ask.used) } else { 0 };
        self.generation = grant.generation;
        let extra = grant.granted.saturating_sub(before);
        if ask.wanted > 0 {
            self.slice = extra;
            self.dry_at = if extra < ask.wanted { asked_ms } else { 0 };
        }
        self.granted = grant.granted;
        self.taken = grant.taken;
        self.told_at = asked_ms;
        let alive_ms = i64::try_from(self.limit.alive_for().as_millis()).unwrap_or(i64::MAX);
        self.leased_until = asked_ms.saturating_add(alive_ms);
    }
}
