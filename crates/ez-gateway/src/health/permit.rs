//! The permit of one attempt: holds a slot of its credential, and tells the credential's health how the attempt went.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::book::{FoundBy, HealthBook};
use super::breaker::Pass;
use super::key::KeyHealth;
use super::slots::Slot;
use crate::attempts::CountedAttempt;
use crate::failure::Blame;
use crate::plan::UpstreamChoice;

/// One attempt under way. The first of [`Self::succeeded`] and [`Self::failed`] counts; dropped without either, as when
/// the client leaves, it says nothing of the credential, and gives back its trial.
#[derive(Debug)]
pub(crate) struct Permit {
    book: Arc<HealthBook>,
    health: Arc<KeyHealth>,
    choice: UpstreamChoice,
    pass: Pass,
    is_open: bool,
    /// None before anybody was asked.
    counted: Option<CountedAttempt>,
    _slot: Slot,
}

impl Permit {
    /// Lets an attempt begin on a slot, where nothing stands against it.
    pub(crate) fn enter(book: &Arc<HealthBook>, choice: &UpstreamChoice, slot: Slot) -> Option<Self> {
        let health = book.of(&choice.upstream).clone();
        let pass = health.enter(&choice.upstream, &choice.upstream_model, Instant::now())?;
        Some(Self {
            book: book.clone(),
            health,
            choice: choice.clone(),
            pass,
            is_open: true,
            counted: None,
            _slot: slot,
        })
    }

    /// The attempt goes out: from here on it counts among those of its credential.
    pub(crate) fn count(&mut self) {
        self.counted = Some(self.book.attempts().begin(self.choice.upstream.snapshot.id));
    }

    /// The credential and the model to ask it for.
    pub(crate) fn choice(&self) -> &UpstreamChoice {
        &self.choice
    }

    /// The answer has begun: a trial that has come so far keeps nobody else away.
    pub(crate) fn answered(&mut self) {
        if self.pass == Pass::Trial {
            let turn = self.health.answered(Pass::Trial, self.book.config());
            self.book.tell_turn(&self.choice, turn);
            self.pass = Pass::Ordinary;
        }
    }

    /// The credential did what it is for.
    pub(crate) fn succeeded(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let turn = self.health.succeeded(self.pass);
            self.book.tell_turn(&self.choice, turn);
        }
    }

    /// The attempt failed by the credential's fault; `pause` is the one that the vendor asked for.
    pub(crate) fn failed(&mut self, blame: Blame, pause: Option<Duration>, request_id: &str) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        self.count_failure();
        let now = Instant::now();
        let finding = FoundBy { health: &self.health, choice: &self.choice, request_id, now };
        match self.book.take_blame(&finding, blame, pause) {
            true => {
                let turn = self.health.failed(self.pass, now, self.book.config());
                self.book.tell_turn(&self.choice, turn);
            }
            // What is known by its own name does not count as a failure, and does not decide a trial either.
            false => self.give_back(),
        }
    }

    /// The attempt failed, whatever that says of the credential's health.
    pub(crate) fn count_failure(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.failed();
        }
    }

    fn give_back(&self) {
        if self.pass == Pass::Trial {
            self.health.give_back(Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_open {
            self.give_back();
        }
    }
}
