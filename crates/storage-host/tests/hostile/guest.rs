//! A guest whose calls a test chooses.

use std::sync::Arc;

use storage_host::guest::{self, ComponentState, SandboxLimits};
use storage_host::wasmtime::component::{Instance, InstancePre, Val, WasmList};
use storage_host::wasmtime::{self, Store};
use storage_host::{ComponentId, StorageHost};

use crate::arena::{NEVER, Watch};
use crate::component::{ANSWER, DATA, Encoding, FUNCTIONS, Fails, HEAP, Kind, export};
use crate::linkage::Linkage;

/// The bytes of a guest's memory that are read at a time.
const PART: u32 = 1 << 20;

/// A page of WebAssembly's memory.
pub(crate) const PAGE: u64 = 65_536;

/// The misbehaviours of realloc, numbered as in `memory.wat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Realloc {
    Traps = 1,
    BeginsOutside = 2,
    EndsOutside = 3,
    IsMisaligned = 4,
    NeverReturns = 5,
    CallsStorage = 6,
    ReturnsResultAddress = 7,
    RecursesForEver = 8,
    TakesAllMemory = 9,
    ReturnsZero = 10,
}

/// The first bytes of a result; no function has a longer one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer([u8; 64]);

impl Answer {
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn long(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }
}

/// The result of a call, or the name of the error's case with its text.
pub(crate) type Outcome = Result<Answer, String>;

/// A call whose arguments are in the memory of a guest.
pub(crate) struct Call {
    pub(crate) guest: Guest,
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<u64>,
}

impl Call {
    pub(crate) fn run(&mut self) -> Outcome {
        self.guest.call(self.name, &self.arguments)
    }

    /// Runs calls that must end their guests for one of these reasons.
    pub(crate) fn expect_traps(calls: &mut [Self], reasons: &[&str]) {
        for Self { guest, name, arguments } in calls {
            let reason = guest.trap(name, arguments);
            assert!(reasons.iter().any(|known| reason.contains(known)), "{name}: {reason}");
        }
    }
}

pub(crate) struct Guest {
    store: Store<ComponentState>,
    instance: Instance,
    encoding: Encoding,
    linkage: Linkage,
    watch: Arc<Watch>,
    /// Where the test writes next.
    data: u32,
    /// A guest that has trapped cannot be entered again.
    ended: bool,
}

impl Guest {
    pub(crate) fn new(
        linkage: Linkage,
        component: &InstancePre<ComponentState>,
        kind: Kind,
        host: &StorageHost,
        id: &ComponentId,
        sandbox: SandboxLimits,
        watch: Arc<Watch>,
    ) -> Self {
        let state = ComponentState::with_sandbox(host.component(id), sandbox);
        let mut store = guest::new_store(component.engine(), state, |state| state);
        store.set_epoch_deadline(NEVER);
        let instance = linkage.instantiate(component, &mut store).unwrap();
        let encoding = kind.encoding;
        Self { store, instance, encoding, linkage, watch, data: DATA, ended: false }
    }

    /// Calls a function of [`FUNCTIONS`] with these arguments.
    pub(crate) fn try_call(&mut self, name: &str, arguments: &[u64]) -> wasmtime::Result<Outcome> {
        let fails = self.call_only(name, arguments)?;
        let answer: [u8; 64] = self.look(ANSWER, 64).try_into().unwrap();
        Ok(self.outcome(Answer(answer), fails))
    }

    /// The same without reading the result, which may be invalid.
    pub(crate) fn call_only(&mut self, name: &str, arguments: &[u64]) -> wasmtime::Result<Fails> {
        let number = FUNCTIONS.iter().position(|function| function.name == name);
        let number = number.unwrap_or_else(|| panic!("unknown function {name}"));
        let function = &FUNCTIONS[number];
        assert_eq!(function.flat.len(), arguments.len(), "the arguments of {name}");
        let values: Vec<Val> = std::iter::zip(function.flat.chars(), arguments)
            .map(|(flat, argument)| match flat {
                'l' => Val::U64(*argument),
                _ => Val::U32(u32::try_from(*argument).unwrap()),
            })
            .collect();
        self.run(&export(number), &values)?;
        Ok(function.fails)
    }

    pub(crate) fn call(&mut self, name: &str, arguments: &[u64]) -> Outcome {
        self.try_call(name, arguments).unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// Calls a function that ends the guest, and returns the reason.
    pub(crate) fn trap(&mut self, name: &str, arguments: &[u64]) -> String {
        match self.try_call(name, arguments) {
            Ok(outcome) => panic!("{name} returned {outcome:?}"),
            Err(error) => self.describe(&error),
        }
    }

    /// Calls an export other than [`FUNCTIONS`], which ends the guest.
    pub(crate) fn trap_in(&mut self, export: &str, arguments: &[Val]) -> String {
        let error = self.run(export, arguments).expect_err("the guest did not end");
        self.describe(&error)
    }

    pub(crate) fn is_utf8(&self) -> bool {
        self.encoding == Encoding::Utf8
    }

    fn describe(&self, error: &wasmtime::Error) -> String {
        let reason = guest::describe_failure(error, &self.store.data().storage().limits());
        self.watch.scan(reason.as_bytes(), "why a guest ended");
        reason
    }

    fn run(&mut self, export: &str, arguments: &[Val]) -> wasmtime::Result<Option<Val>> {
        let function = self.instance.get_func(&mut self.store, export).unwrap();
        let has_result = function.ty(&self.store).results().len() > 0;
        let mut results = vec![Val::Bool(false); usize::from(has_result)];
        let ran = self.linkage.call(&function, &mut self.store, arguments, &mut results);
        self.ended |= ran.is_err();
        ran.map(|()| results.pop())
    }

    /// Calls an export that returns a number or nothing.
    pub(crate) fn number(&mut self, export: &str, arguments: &[Val]) -> i64 {
        match self.run(export, arguments).unwrap() {
            Some(Val::U32(number)) => number.into(),
            Some(Val::S32(number)) => number.into(),
            _ => 0,
        }
    }

    fn outcome(&mut self, answer: Answer, fails: Fails) -> Outcome {
        const STORAGE: [&str; 5] =
            ["not-found", "already-exists", "quota-exceeded", "invalid-key", "io-error"];
        const EXTENDED: [&str; 4] = ["no-such-store", "access-denied", "conflict", "storage"];
        const KEY_VALUE: [&str; 3] = ["no-such-store", "access-denied", "other"];
        const SPIN: [&str; 4] = ["store-table-full", "no-such-store", "access-denied", "other"];
        if fails == Fails::Never || answer.byte(0) == 0 {
            return Ok(answer);
        }
        let (at, cases): (usize, &[&str]) = match fails {
            Fails::Extended(at) if answer.byte(at) == 3 => (at + 4, &STORAGE),
            Fails::Storage(at) => (at, &STORAGE),
            Fails::Extended(at) => (at, &EXTENDED),
            Fails::KeyValue(at) => (at, &KEY_VALUE),
            Fails::Spin(at) => (at, &SPIN),
            Fails::Swap if answer.byte(4) == 1 => {
                return Err(format!("cas-failed {}", answer.word(8)));
            }
            Fails::Swap | Fails::Never => (8, &KEY_VALUE),
        };
        let case = cases[usize::from(answer.byte(at))];
        Err(match case {
            "quota-exceeded" | "store-table-full" | "no-such-store" | "access-denied" => {
                case.to_owned()
            }
            _ => format!("{case}: {}", self.text_of(&answer, at + 4)),
        })
    }

    /// The string whose address is at this offset of a result.
    pub(crate) fn text_of(&mut self, answer: &Answer, at: usize) -> String {
        self.text(answer.word(at), answer.word(at + 4))
    }

    fn text(&mut self, at: u32, len: u32) -> String {
        const TAG: u32 = 1 << 31;
        let units = |bytes: Vec<u8>| -> Vec<u16> {
            bytes.chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect()
        };
        match self.encoding {
            Encoding::Utf8 => String::from_utf8(self.look(at, len)).unwrap(),
            Encoding::Utf16 => String::from_utf16(&units(self.look(at, len * 2))).unwrap(),
            Encoding::Latin1OrUtf16 if len & TAG != 0 => {
                String::from_utf16(&units(self.look(at, (len ^ TAG) * 2))).unwrap()
            }
            Encoding::Latin1OrUtf16 => self.look(at, len).into_iter().map(char::from).collect(),
        }
    }

    /// The bytes whose address is at this offset.
    pub(crate) fn bytes_of(&mut self, answer: &Answer, at: usize) -> Vec<u8> {
        self.look(answer.word(at), answer.word(at + 4))
    }

    /// The strings of the list whose address is at this offset.
    pub(crate) fn texts_of(&mut self, answer: &Answer, at: usize) -> Vec<String> {
        let list = self.look(answer.word(at), answer.word(at + 4) * 8);
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        list.chunks(8).map(|pair| self.text(word(&pair[..4]), word(&pair[4..]))).collect()
    }

    /// Reads the guest's memory.
    pub(crate) fn look(&mut self, at: u32, len: u32) -> Vec<u8> {
        let look =
            self.instance.get_typed_func::<(u32, u32), (WasmList<u8>,)>(&mut self.store, "look");
        let look = look.unwrap();
        let mut bytes = Vec::with_capacity(len as usize);
        while (bytes.len() as u32) < len {
            let done = bytes.len() as u32;
            let part = (at + done, PART.min(len - done));
            let (part,) = self.linkage.call_typed(&look, &mut self.store, part).unwrap();
            bytes.extend_from_slice(part.as_le_slice(&self.store));
        }
        bytes
    }

    /// Writes into the guest's memory.
    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) {
        self.run("aim", &[Val::U32(at)]).unwrap();
        let write = self.instance.get_typed_func::<(&[u8],), ()>(&mut self.store, "write").unwrap();
        self.linkage.call_typed(&write, &mut self.store, (bytes,)).unwrap();
    }

    /// Writes bytes to the guest's memory, and returns their address.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> u64 {
        let len = u32::try_from(bytes.len()).unwrap().next_multiple_of(8);
        if self.data + len > HEAP {
            self.data = DATA;
        }
        assert!(self.data + len <= HEAP, "{len} bytes do not fit");
        let at = self.data;
        self.data += len;
        self.write(at, bytes);
        at.into()
    }

    /// Writes a text in the guest's encoding: its address and length.
    pub(crate) fn string(&mut self, text: &str) -> [u64; 2] {
        let units = || text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let count = text.encode_utf16().count() as u64;
        match self.encoding {
            Encoding::Utf8 => [self.put(text.as_bytes()), text.len() as u64],
            Encoding::Utf16 => [self.put(&units()), count],
            Encoding::Latin1OrUtf16 if text.chars().all(|c| c <= '\u{ff}') => {
                let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
                [self.put(&bytes), bytes.len() as u64]
            }
            Encoding::Latin1OrUtf16 => [self.put(&units()), count | 1 << 31],
        }
    }

    /// Writes a list of elements of `each` words: its address and length.
    pub(crate) fn list(&mut self, words: &[u64], each: usize) -> [u64; 2] {
        let bytes: Vec<u8> = words.iter().flat_map(|word| (*word as u32).to_le_bytes()).collect();
        [self.put(&bytes), (words.len() / each) as u64]
    }

    /// Writes a list of strings.
    pub(crate) fn strings(&mut self, texts: &[&str]) -> [u64; 2] {
        let words: Vec<u64> = texts.iter().flat_map(|text| self.string(text)).collect();
        self.list(&words, 2)
    }

    /// Writes a list of pairs of keys and values, given by their addresses.
    pub(crate) fn pairs(&mut self, pairs: &[[u64; 4]]) -> [u64; 2] {
        self.list(pairs.as_flattened(), 4)
    }

    /// Writes a list of set operations, given by their addresses.
    pub(crate) fn writes(&mut self, pairs: &[[u64; 4]]) -> [u64; 2] {
        let words: Vec<u64> =
            pairs.iter().flat_map(|[key, len, at, value]| [0, *key, *len, *at, *value]).collect();
        self.list(&words, 5)
    }

    /// Writes a check of a value, given by addresses.
    pub(crate) fn check_of(&mut self, [key, len]: [u64; 2], [at, value]: [u64; 2]) -> [u64; 2] {
        self.list(&[key, len, 3, 0, at, value], 6)
    }

    pub(crate) fn fill(&mut self, at: u32, byte: u8, len: u32) {
        self.run("fill", &[Val::U32(at), Val::U32(byte.into()), Val::U32(len)]).unwrap();
    }

    /// Grows the memory by some pages, and returns whether that succeeded.
    pub(crate) fn grow(&mut self, pages: u32) -> bool {
        self.number("grow", &[Val::U32(pages)]) >= 0
    }

    pub(crate) fn misbehave(&mut self, how: Realloc, after: u32) {
        self.run("misbehave", &[Val::U32(how as u32), Val::U32(after)]).unwrap();
    }

    /// Opens the store of this name with `draft`, `draft2`, `extended` or `spin`.
    pub(crate) fn open(&mut self, interface: &str, name: &str) -> Result<u64, String> {
        let [at, len] = self.string(name);
        let opened = self.call(&format!("{interface}.open"), &[at, len]);
        opened.map(|answer| answer.word(4).into())
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let ([key, key_len], [value, value_len]) = (self.string(key), {
            let at = self.put(value.as_bytes());
            [at, value.len() as u64]
        });
        self.call("storage.set", &[key, key_len, value, value_len]).map(drop)
    }

    pub(crate) fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let [key, len] = self.string(key);
        let answer = self.call("storage.get", &[key, len])?;
        Ok((answer.byte(4) == 1).then(|| self.bytes_of(&answer, 8)))
    }

    pub(crate) fn list_keys(&mut self) -> Result<Vec<String>, String> {
        let answer = self.call("storage.list-keys", &[0, 0, 0])?;
        Ok(self.texts_of(&answer, 4))
    }

    /// The guest ends once the engine's epoch has advanced this often.
    pub(crate) fn set_deadline(&mut self, ticks: u64) {
        self.store.set_epoch_deadline(ticks);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.ended || std::thread::panicking() {
            return;
        }
        // The host wrote the last result, and what it allocated. Of very much, search the first
        // and the last part.
        let answer = self.look(0, 4_096);
        self.watch.scan(&answer, "the result of a guest");
        let end = self.number("next", &[]) as u32;
        let mut at = HEAP;
        while at < end {
            if at == HEAP + 8 * PART {
                at = at.max(end - PART);
            }
            // The parts overlap, so that no match is missed.
            let from = at.saturating_sub(256).max(HEAP);
            at = end.min(at + PART);
            let part = self.look(from, at - from);
            self.watch.scan(&part, "the memory of a guest");
        }
    }
}
