//! Beginning with a template where that is possible, and with the kernel where it is not.

use std::time::{Duration, Instant};

use boxlite_machine::qemu::template::{OpenError, Shape, Template};
use boxlite_machine::qemu::{Boot, QemuInfo};
use boxlite_machine::{Accelerator, MachineSpec, Security};
use boxlite_shim::{Stage, StageTimings, StartFailure, StartFailureCode, StartFrom, TemplateConfig, Templates};

use super::start::{Booted, Start};
use super::{describe, end, failure};

/// How long nothing may be heard from a machine that only goes on where another stood, before
/// a start from the kernel is the better bet. A machine with many others beside it is slow.
const SILENCE_TCG: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(10);

/// Name of the empty folder that fills places for volumes, in the machine's private folder.
const BLANK_DIR_NAME: &str = "blank";

/// What a start begins with.
#[derive(Debug)]
pub(super) struct Plan {
    begin: Begin,
    /// What later starts could begin with.
    pub(super) to_make: Option<TemplateConfig>,
}

/// Why a start was cold.
#[derive(Debug)]
pub(super) enum ColdReason {
    /// It was to be.
    Planned(String),
    /// It was not to be, which whoever started the box is told.
    WarmFailed(String),
}

impl ColdReason {
    /// What is worth a warning.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Planned(_) => None,
            Self::WarmFailed(reason) => Some(reason.clone()),
        }
    }

    pub(super) fn into_text(self) -> String {
        match self {
            Self::Planned(reason) | Self::WarmFailed(reason) => reason,
        }
    }
}

#[derive(Debug)]
enum Begin {
    Warm {
        template: Box<Template>,
        /// The machine, with all places for volumes filled.
        spec: Box<MachineSpec>,
    },
    Cold {
        reason: String,
    },
}

impl Plan {
    fn cold(reason: impl Into<String>) -> Self {
        Self {
            begin: Begin::Cold { reason: reason.into() },
            to_make: None,
        }
    }
}

impl Start<'_> {
    /// Decides what to begin with. Looks at a few files (blocking, briefly).
    pub(super) fn plan(&self, qemu: &QemuInfo, accelerator: Accelerator) -> Result<Plan, StartFailure> {
        let machine = &self.config.machine;
        let templates = match &self.config.start_from {
            StartFrom::Kernel => return Ok(Plan::cold("templates are switched off")),
            StartFrom::KernelAsAsked => return Ok(Plan::cold("a cold start was asked for")),
            StartFrom::Template(templates) => templates,
        };
        if machine.security == Security::Strict {
            return Ok(Plan::cold(
                "strict security: the engine would have to be able to write to the template",
            ));
        }
        let shape = match Shape::of(machine, qemu, accelerator) {
            Ok(shape) => shape,
            Err(error) => return Ok(Plan::cold(describe(&error))),
        };
        match Template::find(&templates.dir, &shape) {
            Ok(template) => {
                let template = Box::new(template);
                let blank = machine.runtime_dir.join(BLANK_DIR_NAME);
                let made = match std::fs::create_dir(&blank) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
                    _ => Ok(()),
                };
                made.map_err(|error| failure::internal(Stage::Prepare, "an empty folder for the machine", &error))?;
                let mut spec = Box::new(shape.fill(machine, &blank));
                let (is_blank, serial) = (self.config.disk_is_blank, &templates.blank.serial);
                if let Err(error) = template.place_disks(&mut spec, is_blank, serial) {
                    return Ok(Plan::cold(describe(&error)));
                }
                Ok(Plan {
                    begin: Begin::Warm { template, spec },
                    to_make: None,
                })
            }
            Err(error) => {
                if !matches!(error, OpenError::Missing) {
                    tracing::warn!(error = describe(&error), "the template is of no use");
                }
                Ok(Plan {
                    begin: Begin::Cold {
                        reason: describe(&error),
                    },
                    to_make: self.template_to_make(templates),
                })
            }
        }
    }

    /// The template of this box's shape, to be made without the box's own folders.
    fn template_to_make(&self, templates: &Templates) -> Option<TemplateConfig> {
        templates.make.then(|| TemplateConfig {
            machine: self.config.machine.clone(),
            templates: templates.clone(),
            timeout_ms: self.config.start_timeout_ms,
            in_background: true,
        })
    }

    /// Boots, and says why it was cold if it was.
    pub(super) async fn boot_as_planned(
        &mut self,
        plan: &mut Plan,
        engine: (&QemuInfo, Accelerator),
        silence: Duration,
        timings: &mut StageTimings,
    ) -> Result<(Booted, Option<ColdReason>), StartFailure> {
        let config = self.config;
        let reason = match &plan.begin {
            Begin::Cold { reason } => ColdReason::Planned(reason.clone()),
            Begin::Warm { template, spec } => {
                let began = Instant::now();
                let patience = match engine.1 {
                    Accelerator::Tcg => SILENCE_TCG,
                    Accelerator::Kvm | Accelerator::Hvf => SILENCE,
                };
                let warm = self
                    .boot(Boot::Template(template), spec, engine, silence.min(patience), timings)
                    .await;
                let failure = match warm {
                    Ok(booted) => return Ok((booted, None)),
                    Err(failure) => failure,
                };
                tracing::warn!(stage = %failure.stage, evidence = ?failure.evidence, "warm start: {failure}");
                self.abandon().await;
                if blames_template(&failure) {
                    // The next start makes another.
                    if let Err(error) = std::fs::remove_dir_all(template.dir()) {
                        tracing::warn!(%error, "the template is still there");
                    }
                    if let StartFrom::Template(templates) = &config.start_from {
                        plan.to_make = self.template_to_make(templates);
                    }
                }
                *timings = StageTimings {
                    prepare_us: timings.prepare_us,
                    failed_warm_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
                    ..StageTimings::default()
                };
                ColdReason::WarmFailed(format!(
                    "the start from a template failed at the stage {}: {failure}",
                    failure.stage
                ))
            }
        };
        let booted = self
            .boot(Boot::Kernel, &config.machine, engine, silence, timings)
            .await?;
        Ok((booted, Some(reason)))
    }

    /// Ends the machine that did not come up.
    async fn abandon(&mut self) {
        self.publish.engine(None);
        if let Some(machine) = self.machine.take() {
            end::kill(machine).await;
        }
        if let Some(console) = self.console.take() {
            console.ended().await;
        }
    }
}

/// Whether another template may do better.
fn blames_template(failure: &StartFailure) -> bool {
    matches!(
        failure.code,
        StartFailureCode::EngineFailed
            | StartFailureCode::GuestSilent
            | StartFailureCode::KernelPanicked
            | StartFailureCode::ProtocolMismatch
            | StartFailureCode::ConfigureFailed
    )
}
