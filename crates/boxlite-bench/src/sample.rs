//! Taking samples: those of a row and of its floors in turn.

use std::collections::HashMap;

use futures_util::future::LocalBoxFuture;

use crate::error::BenchError;
use crate::host;
use crate::report::{Bar, Group, Row, Unit};

/// A contender that fails so often in a row, without ever having succeeded, is given up.
const HOPELESS: usize = 3;

/// One run of a contender: values by the ids of rows.
pub(crate) type Observations = Vec<(String, f64)>;

type Sampler<'a> = Box<dyn FnMut() -> LocalBoxFuture<'a, Result<Observations, BenchError>> + 'a>;

/// Something that is measured over and over.
pub(crate) struct Contender<'a> {
    /// What it fills. The first one gets its failures.
    rows: Vec<Row>,
    state: State<'a>,
}

enum State<'a> {
    Ready(Sampler<'a>),
    Absent,
}

/// An empty row.
pub(crate) fn row(id: impl Into<String>, group: Group, unit: Unit, title: impl Into<String>) -> Row {
    Row {
        id: id.into(),
        group,
        title: title.into(),
        unit,
        floors: Vec::new(),
        bars: Vec::new(),
        samples: Vec::new(),
        failures: Vec::new(),
        absent: None,
        load: 0.0,
    }
}

impl Row {
    /// Puts it beside another row.
    pub(crate) fn floor(mut self, id: impl Into<String>) -> Self {
        self.floors.push(id.into());
        self
    }

    /// Gives it a bar.
    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bars.push(bar);
        self
    }

    /// As a row that can't be filled here.
    pub(crate) fn absent(mut self, why: impl std::fmt::Display) -> Self {
        self.absent = Some(why.to_string());
        self
    }
}

impl<'a> Contender<'a> {
    /// Something that fills one row, with the values that `sample` gives.
    pub(crate) fn one<F>(row: Row, mut sample: impl FnMut() -> F + 'a) -> Self
    where
        F: Future<Output = Result<f64, BenchError>> + 'a,
    {
        let id = row.id.clone();
        Self {
            rows: vec![row],
            state: State::Ready(Box::new(move || {
                let (id, taking) = (id.clone(), sample());
                Box::pin(async move { Ok(vec![(id, taking.await?)]) })
            })),
        }
    }

    /// Something that fills several rows at once.
    pub(crate) fn several<F>(rows: Vec<Row>, mut sample: impl FnMut() -> F + 'a) -> Self
    where
        F: Future<Output = Result<Observations, BenchError>> + 'a,
    {
        Self {
            rows,
            state: State::Ready(Box::new(move || Box::pin(sample()))),
        }
    }

    /// Something that can't be measured here.
    pub(crate) fn absent(row: Row, why: impl std::fmt::Display) -> Self {
        Self {
            rows: vec![row.absent(why)],
            state: State::Absent,
        }
    }
}

/// How many samples are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// That don't count.
    pub(crate) warm_ups: usize,
    /// That do.
    pub(crate) n: usize,
}

/// Takes the samples of all contenders in turn, so that what else the machine does hits all
/// of them alike. `on_round` hears of each round.
pub(crate) async fn interleave(
    rounds: Rounds,
    mut contenders: Vec<Contender<'_>>,
    mut on_round: impl FnMut(usize),
) -> Vec<Row> {
    for round in 0..rounds.warm_ups + rounds.n {
        on_round(round);
        for contender in &mut contenders {
            let State::Ready(sample) = &mut contender.state else {
                continue;
            };
            let taken = sample().await;
            let counts = round >= rounds.warm_ups;
            let Some(first) = contender.rows.first_mut() else {
                continue;
            };
            match taken {
                Ok(values) if counts => {
                    let mut values: HashMap<String, f64> = values.into_iter().collect();
                    for row in &mut contender.rows {
                        row.samples.extend(values.remove(&row.id));
                    }
                }
                Ok(_) => {}
                // A failure counts also when it is early: nothing may be hidden by a warm-up.
                Err(error) => {
                    first.failures.push(error.to_string());
                    if first.samples.is_empty() && first.failures.len() >= HOPELESS {
                        first.absent = Some(format!("gave up: {error}"));
                        contender.state = State::Absent;
                    }
                }
            }
        }
    }
    let load = host::load_average().map_or(0.0, |averages| averages[0]);
    let mut rows: Vec<Row> = contenders.into_iter().flat_map(|contender| contender.rows).collect();
    for row in &mut rows {
        row.load = load;
    }
    rows
}

#[cfg(test)]
mod tests;
