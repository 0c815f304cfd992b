//! Random operations, compared with the simplest thing that could be right.
#![allow(clippy::unwrap_used, reason = "a test is to fail there")]

use std::collections::BTreeMap;

use boxlite_store::{BoxId, BoxLock, EndedRun, Expected, GarbageOptions, Home, NewBox, RecordedState, RunChange};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Create {
        name: u8,
    },
    Transition {
        which: usize,
        to: usize,
    },
    /// Like the end of a supervisor: the lock is given back, with or without a record.
    EndSupervisor {
        which: usize,
        leaves_record: bool,
    },
    Remove {
        which: usize,
    },
    Rename {
        which: usize,
        name: u8,
    },
    Recover,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0_usize..6;
    let step = prop_oneof![
        3 => (0_u8..5).prop_map(|name| Step::Create { name }),
        8 => (which.clone(), 0_usize..7).prop_map(|(which, to)| Step::Transition { which, to }),
        3 => (which.clone(), any::<bool>())
            .prop_map(|(which, leaves_record)| Step::EndSupervisor { which, leaves_record }),
        2 => which.clone().prop_map(|which| Step::Remove { which }),
        1 => (which, 0_u8..5).prop_map(|(which, name)| Step::Rename { which, name }),
        2 => Just(Step::Recover),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

#[derive(Debug)]
struct ModelBox {
    name: String,
    state: RecordedState,
    run: u32,
    lock: Option<BoxLock>,
    has_record: bool,
}

fn parse(bytes: &[u8]) -> Result<EndedRun, String> {
    let run_id = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
    Ok(EndedRun {
        run_id,
        exit: None,
        error: None,
        finished_at_ms: 1,
    })
}

fn id_at(model: &BTreeMap<BoxId, ModelBox>, which: usize) -> Option<BoxId> {
    model.keys().nth(which).cloned()
}

fn take(home: &Home, id: &BoxId, model: &mut ModelBox) {
    if model.lock.is_none() {
        model.lock = BoxLock::try_acquire(home, id).unwrap();
        assert!(model.lock.is_some());
    }
}

fn apply(home: &mut Home, model: &mut BTreeMap<BoxId, ModelBox>, step: &Step) {
    match *step {
        Step::Create { name } => {
            let name = format!("box-{name}");
            let is_taken = model.values().any(|known| known.name == name);
            let draft = home.draft_box().unwrap();
            let result = draft.commit(NewBox {
                name: Some(name.clone()),
                ..NewBox::default()
            });
            assert_eq!(result.is_err(), is_taken);
            if let Ok((record, lock)) = result {
                let known = ModelBox {
                    name,
                    state: RecordedState::Created,
                    run: 0,
                    lock: Some(lock),
                    has_record: false,
                };
                model.insert(record.id, known);
            }
        }
        Step::Transition { which, to } => {
            let Some(id) = id_at(model, which) else { return };
            let known = model.get_mut(&id).unwrap();
            let to = RecordedState::ALL[to];
            let starts = to == RecordedState::Starting;
            if starts {
                take(home, &id, known);
            }
            let run_id = starts.then(|| format!("run-{}", known.run + 1));
            let change = RunChange {
                run_id,
                ..RunChange::default()
            };
            let result = home.transition(&id, Expected::any_of(&RecordedState::ALL), to, change);
            assert_eq!(result.is_ok(), known.state.may_become(to), "{} -> {to}", known.state);
            if result.is_ok() {
                known.state = to;
                if starts {
                    known.run += 1;
                    known.has_record = false;
                }
            }
        }
        Step::EndSupervisor { which, leaves_record } => {
            let Some(id) = id_at(model, which) else { return };
            let known = model.get_mut(&id).unwrap();
            if leaves_record && known.lock.is_some() && known.state.is_live() {
                std::fs::write(home.exit_record_path(&id), format!("run-{}", known.run)).unwrap();
                known.has_record = true;
            }
            known.lock = None;
        }
        Step::Remove { which } => {
            let Some(id) = id_at(model, which) else { return };
            let mut known = model.remove(&id).unwrap();
            take(home, &id, &mut known);
            home.remove_box(known.lock.unwrap()).unwrap();
        }
        Step::Rename { which, name } => {
            let Some(id) = id_at(model, which) else { return };
            let name = format!("box-{name}");
            let is_taken = model.iter().any(|(other, known)| *other != id && known.name == name);
            assert_eq!(home.rename_box(&id, &name).is_err(), is_taken);
            if !is_taken {
                model.get_mut(&id).unwrap().name = name;
            }
        }
        Step::Recover => {
            // What a crash leaves: a folder without a row.
            std::fs::create_dir(home.boxes_dir().join(BoxId::random().unwrap().as_str())).unwrap();
            let recovered = home.recover(&parse, 0, &GarbageOptions::default()).unwrap();
            assert_eq!(recovered.collected.box_folders, 1);
            let mut ended = 0;
            for known in model
                .values_mut()
                .filter(|known| known.state.is_live() && known.lock.is_none())
            {
                known.state = if known.has_record {
                    RecordedState::Stopped
                } else {
                    RecordedState::Failed
                };
                ended += 1;
            }
            assert_eq!(recovered.ended.len(), ended);
        }
        Step::Reopen => *home = Home::open(home.path()).unwrap(),
    }
}

fn assert_same(home: &Home, model: &BTreeMap<BoxId, ModelBox>) {
    let boxes = home.list_boxes().unwrap();
    assert_eq!(boxes.len(), model.len());
    for record in boxes {
        let known = &model[&record.id];
        assert_eq!((&record.name, record.state), (&known.name, known.state));
        assert_eq!(record.run_id, (known.run > 0).then(|| format!("run-{}", known.run)));
        assert_eq!(
            record.error.is_some(),
            record.state == RecordedState::Failed && known_failed_by_recovery(&record)
        );
        assert_eq!(BoxLock::is_locked(home, &record.id).unwrap(), known.lock.is_some());
        assert!(home.box_dir(&record.id).join("lock").exists());
    }
    assert_eq!(std::fs::read_dir(home.boxes_dir()).unwrap().count(), model.len());
    assert_eq!(std::fs::read_dir(home.path().join("trash")).unwrap().count(), 0);
}

/// A failure that a step of this test recorded has no error; recovery's always has.
fn known_failed_by_recovery(record: &boxlite_store::BoxRecord) -> bool {
    record
        .error
        .as_ref()
        .is_some_and(|error| error.code == "supervisor_lost")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut home = Home::open(directory.path()).unwrap();
        let mut model = BTreeMap::new();
        for step in &steps {
            apply(&mut home, &mut model, step);
            assert_same(&home, &model);
        }
    }
}
