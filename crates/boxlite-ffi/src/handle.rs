//! Handles: numbers that stand for what lives here, and are never used twice.
//!
//! A handle is, from the top: four bits that say what it names, 28 bits of generation, 32 bits
//! that say which slot it is in. A slot whose generations are used up is not used again.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::boxes::BoxObject;
use crate::client::ClientObject;
use crate::code::Code;
use crate::error::Failure;
use crate::execution::ExecObject;
use crate::op::Op;

/// Names a client.
pub type boxlite_client_t = u64;
/// Names a box.
pub type boxlite_box_t = u64;
/// Names an execution.
pub type boxlite_exec_t = u64;
/// Names an operation.
pub type boxlite_op_t = u64;

const SLOT_BITS: u32 = 32;
const GENERATION_BITS: u32 = 28;
const LAST_GENERATION: u32 = (1 << GENERATION_BITS) - 1;

/// What a handle names.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Client(Arc<ClientObject>),
    Box(Arc<BoxObject>),
    Exec(Arc<ExecObject>),
    Op(Arc<Op>),
}

impl Object {
    fn tag(&self) -> u64 {
        match self {
            Self::Client(_) => Arc::<ClientObject>::TAG,
            Self::Box(_) => Arc::<BoxObject>::TAG,
            Self::Exec(_) => Arc::<ExecObject>::TAG,
            Self::Op(_) => Arc::<Op>::TAG,
        }
    }
}

/// A kind of thing that a handle can name.
pub(crate) trait Named: Sized {
    /// The top four bits.
    const TAG: u64;
    /// For messages.
    const NOUN: &'static str;
    fn from_object(object: &Object) -> Option<Self>;
}

macro_rules! named {
    ($($variant:ident: $type:ty = $tag:literal, $noun:literal;)*) => {$(
        impl Named for Arc<$type> {
            const TAG: u64 = $tag;
            const NOUN: &'static str = $noun;
            fn from_object(object: &Object) -> Option<Self> {
                match object {
                    Object::$variant(found) => Some(Arc::clone(found)),
                    _ => None,
                }
            }
        }
    )*};
}

named! {
    Client: ClientObject = 1, "client";
    Box: BoxObject = 2, "box";
    Exec: ExecObject = 3, "execution";
    Op: Op = 4, "operation";
}

fn noun(tag: u64) -> Option<&'static str> {
    match tag {
        1 => Some(Arc::<ClientObject>::NOUN),
        2 => Some(Arc::<BoxObject>::NOUN),
        3 => Some(Arc::<ExecObject>::NOUN),
        4 => Some(Arc::<Op>::NOUN),
        _ => None,
    }
}

#[derive(Debug)]
struct Slot<T> {
    /// Of the one in it, or of the next one.
    generation: u32,
    /// Tag of the last one that was in it.
    tag: u64,
    value: Option<T>,
}

/// Slots of values, each with a number that is never given again.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

/// What a number that names nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It named something.
    Freed,
    /// It never named anything.
    Unknown,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Takes a value in; `None` when there are 2³² of them.
    pub(crate) fn insert(&mut self, tag: u64, value: T) -> Option<u64> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot {
                    generation: 0,
                    tag,
                    value: None,
                });
                index
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.tag = tag;
        slot.value = Some(value);
        Some(tag << (SLOT_BITS + GENERATION_BITS) | u64::from(slot.generation) << SLOT_BITS | u64::from(index))
    }

    fn position(&self, handle: u64) -> Result<usize, Missing> {
        let index = (handle & u64::from(u32::MAX)) as usize;
        let generation = (handle >> SLOT_BITS) as u32 & LAST_GENERATION;
        let tag = handle >> (SLOT_BITS + GENERATION_BITS);
        let slot = self.slots.get(index).ok_or(Missing::Unknown)?;
        match generation.cmp(&slot.generation) {
            std::cmp::Ordering::Less => Err(Missing::Freed),
            std::cmp::Ordering::Greater => Err(Missing::Unknown),
            std::cmp::Ordering::Equal if slot.value.is_some() && slot.tag == tag => Ok(index),
            // The last generation of a slot that is used up stays where it is.
            std::cmp::Ordering::Equal if slot.generation == LAST_GENERATION && slot.tag == tag => Err(Missing::Freed),
            std::cmp::Ordering::Equal => Err(Missing::Unknown),
        }
    }

    pub(crate) fn get(&self, handle: u64) -> Result<&T, Missing> {
        let index = self.position(handle)?;
        self.slots[index].value.as_ref().ok_or(Missing::Freed)
    }

    pub(crate) fn remove(&mut self, handle: u64) -> Result<T, Missing> {
        let index = self.position(handle)?;
        let slot = &mut self.slots[index];
        let value = slot.value.take().ok_or(Missing::Freed)?;
        if slot.generation < LAST_GENERATION {
            slot.generation += 1;
            self.free.push(index as u32);
        }
        Ok(value)
    }
}

static TABLE: RwLock<Slab<Object>> = RwLock::new(Slab::new());

fn read() -> RwLockReadGuard<'static, Slab<Object>> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Slab<Object>> {
    TABLE.write().unwrap_or_else(PoisonError::into_inner)
}

fn missing(handle: u64, expected: &str, missing: Missing) -> Failure {
    match (missing, noun(handle >> (SLOT_BITS + GENERATION_BITS))) {
        (Missing::Freed, Some(noun)) => Failure::state(format!("this {noun} handle was freed")),
        _ => Failure::argument(format!("{handle:#x} is no {expected} handle")),
    }
}

fn wrong_kind<N: Named>(handle: u64) -> Failure {
    let found = noun(handle >> (SLOT_BITS + GENERATION_BITS)).unwrap_or("unknown");
    Failure::argument(format!("{handle:#x} is a handle of kind {found}, not {}", N::NOUN))
}

/// Gives a new object its handle.
pub(crate) fn insert(object: Object) -> Result<u64, Failure> {
    let tag = object.tag();
    write()
        .insert(tag, object)
        .ok_or_else(|| Failure::new(Code::ResourceExhausted, "there are too many handles"))
}

/// What a handle names.
pub(crate) fn get<N: Named>(handle: u64) -> Result<N, Failure> {
    match read().get(handle) {
        Ok(object) => N::from_object(object).ok_or_else(|| wrong_kind::<N>(handle)),
        Err(error) => Err(missing(handle, N::NOUN, error)),
    }
}

/// Frees a handle, and gives what it named.
pub(crate) fn remove<N: Named>(handle: u64) -> Result<N, Failure> {
    let mut table = write();
    let found = match table.get(handle) {
        Ok(object) => N::from_object(object).ok_or_else(|| wrong_kind::<N>(handle))?,
        Err(error) => return Err(missing(handle, N::NOUN, error)),
    };
    let removed = table.remove(handle);
    // What it named may end here, and that may free others.
    drop(table);
    drop(removed);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_never_given_twice() {
        let mut slab = Slab::new();
        let mut seen = std::collections::HashSet::new();
        for round in 0..1_000 {
            let handle = slab.insert(1 + round % 4, round).unwrap();
            assert!(seen.insert(handle));
            assert_eq!(slab.get(handle), Ok(&round));
            assert_eq!(slab.remove(handle), Ok(round));
            assert_eq!(slab.remove(handle), Err(Missing::Freed));
        }
        assert_eq!(slab.slots.len(), 1);
    }

    #[test]
    fn a_slot_that_is_used_up_is_left() {
        let mut slab = Slab::new();
        let first = slab.insert(1, ()).unwrap();
        slab.remove(first).unwrap();
        slab.slots[0].generation = LAST_GENERATION;
        let last = slab.insert(1, ()).unwrap();
        slab.remove(last).unwrap();
        assert_eq!(slab.get(last), Err(Missing::Freed));
        let next = slab.insert(1, ()).unwrap();
        assert_eq!(next & u64::from(u32::MAX), 1);
    }

    proptest! {
        #[test]
        fn invented_numbers_name_nothing(numbers in proptest::collection::vec(any::<u64>(), 1..100)) {
            let mut slab = Slab::new();
            let mut live = std::collections::HashMap::new();
            for number in 0..20_u64 {
                live.insert(slab.insert(1 + number % 4, number).unwrap(), number);
            }
            for number in numbers {
                prop_assert_eq!(slab.get(number).ok(), live.get(&number));
                // The same slot under another tag or generation.
                let near = number & 0xf | number & !u64::from(u32::MAX);
                prop_assert_eq!(slab.get(near).ok(), live.get(&near));
            }
        }
    }
}
