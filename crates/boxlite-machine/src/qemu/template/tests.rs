use super::*;
use crate::qemu::probe::Version;
use crate::spec::{ConsoleLog, Disk, EngineSpec, Security};
