//! What was found: one line a finding, each `ok`, `warn` or `fail`.

use std::fmt::Display;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Works, but somebody should look.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing failed.
    Well,
    /// Something failed.
    Ill,
}

#[derive(Serialize)]
struct Told<'a> {
    healthy: bool,
    checks: &'a [Finding],
}

impl Report {
    /// Notes that something is as it should be.
    pub(super) fn ok(&mut self, check: &'static str, found: impl Display) {
        self.0.push(Finding { check, level: Level::Ok, found: found.to_string(), advice: None });
    }

    /// Notes what somebody should look at, and what to do.
    pub(super) fn warn(&mut self, check: &'static str, found: impl Display, advice: impl Display) {
        self.add(check, Level::Warn, found, advice);
    }

    /// Notes what does not work, and what to do.
    pub(super) fn fail(&mut self, check: &'static str, found: impl Display, advice: impl Display) {
        self.add(check, Level::Fail, found, advice);
    }

    fn add(&mut self, check: &'static str, level: Level, found: impl Display, advice: impl Display) {
        self.0.push(Finding { check, level, found: found.to_string(), advice: Some(advice.to_string()) });
    }

    pub(super) fn health(&self) -> Health {
        let is_ill = self.0.iter().any(|finding| finding.level == Level::Fail);
        if is_ill { Health::Ill } else { Health::Well }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let line = |finding: &Finding| {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "fail",
            };
            let advice = finding.advice.as_ref().map(|advice| format!("\n        -> {advice}")).unwrap_or_default();
            format!("{level:<5} {}: {}{advice}\n", finding.check, finding.found)
        };
        self.0.iter().map(line).collect()
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let told = Told { healthy: self.health() == Health::Well, checks: &self.0 };
        serde_json::to_string_pretty(&told).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_makes_it_ill_and_each_line_says_what_to_do() {
        let mut report = Report::default();
        report.ok("disk", "3 GiB are free");
        report.warn("clock", "2 s apart", "run NTP");
        assert_eq!(report.health(), Health::Well);
        report.fail("database", "no answer", "start it");
        assert_eq!(report.health(), Health::Ill);
        let text = report.text();
        assert!(text.starts_with("ok    disk: 3 GiB are free\nwarn  clock: 2 s apart\n        -> run NTP\n"), "{text}");
        assert!(text.contains("fail  database: no answer\n        -> start it\n"), "{text}");
        assert!(report.json().contains("\"healthy\": false"), "{}", report.json());
    }
}
