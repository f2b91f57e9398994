//! The figures, for people and for programs.

use anyhow::Result;
use serde::Serialize;

/// A figure and its goal.
#[derive(Debug, Serialize)]
struct Figure {
    scenario: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
}

/// The goal of a figure. A missed goal is reported, and is no failure.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!(">= {}", number(goal)),
            Self::AtMost(goal) => format!("<= {}", number(goal)),
        }
    }
}

/// All figures of a run. Each is also printed when it is known, because a run takes minutes.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The system on which the figures were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<String>,
    figures: Vec<Figure>,
}

impl Report {
    /// Records the system on which the figures are measured.
    pub fn measured_on(&mut self, on: &str) {
        self.on = Some(on.to_owned());
    }

    /// A figure without a goal.
    pub fn note(&mut self, scenario: &'static str, what: impl Into<String>, value: f64, unit: &'static str) {
        self.add(Figure { scenario, what: what.into(), value, unit, goal: None });
    }

    /// A figure with its goal.
    pub fn goal(
        &mut self,
        scenario: &'static str,
        what: impl Into<String>,
        (value, unit): (f64, &'static str),
        goal: Goal,
    ) {
        self.add(Figure { scenario, what: what.into(), value, unit, goal: Some(goal) });
    }

    fn add(&mut self, figure: Figure) {
        eprintln!("{}", figure.line());
        self.figures.push(figure);
    }

    /// Prints all figures as one table.
    pub fn print(&self) {
        self.on.iter().for_each(|on| println!("{on}"));
        self.figures.iter().for_each(|figure| println!("{}", figure.line()));
    }

    /// All figures as JSON.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Figure {
    fn line(&self) -> String {
        let goal = self.goal.map_or(String::new(), |goal| {
            format!("  {:<10} {}", goal.text(), if goal.is_met(self.value) { "met" } else { "NOT MET" })
        });
        format!("{:<12} {:<58} {:>10} {:<8}{goal}", self.scenario, self.what, number(self.value), self.unit)
            .trim_end()
            .to_owned()
    }
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 || value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
