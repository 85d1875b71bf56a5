//! A component that calls every function of storage with any arguments, in WebAssembly's text
//! format.

use std::fmt::Write as _;

/// The address of a call's result in the guest's memory.
pub(crate) const ANSWER: u32 = 16;

/// Tests write from here up to [`HEAP`].
pub(crate) const DATA: u32 = 0x1_0000;

/// The host allocates from here.
pub(crate) const HEAP: u32 = 0x10_0000;

/// How a component's strings are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    Utf8,
    Utf16,
    Latin1OrUtf16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) encoding: Encoding,
    /// Whether `get-many` has Spin's type.
    pub(crate) spin: bool,
}

impl Kind {
    pub(crate) const PLAIN: Self = Self { encoding: Encoding::Utf8, spin: false };
    pub(crate) const SPIN: Self = Self { encoding: Encoding::Utf8, spin: true };
    pub(crate) const UTF16: Self = Self { encoding: Encoding::Utf16, spin: false };
    pub(crate) const LATIN1: Self = Self { encoding: Encoding::Latin1OrUtf16, spin: false };
}

/// The type of a result's error, which determines its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fails {
    Storage(usize),
    Extended(usize),
    KeyValue(usize),
    Spin(usize),
    Swap,
    Never,
}

/// A function that guests import.
#[derive(Debug)]
pub(crate) struct Function {
    /// The interface, a dot, and the function.
    pub(crate) name: &'static str,
    /// The instance, and the name there; for a drop the resource.
    instance: &'static str,
    import: &'static str,
    /// Its parameters, each `i` for 32 bits or `l` for 64.
    pub(crate) flat: &'static str,
    pub(crate) fails: Fails,
}

const fn function(
    name: &'static str,
    instance: &'static str,
    import: &'static str,
    flat: &'static str,
    fails: Fails,
) -> Function {
    Function { name, instance, import, flat, fails }
}

use Fails::{Extended, KeyValue, Never, Spin, Storage, Swap};

/// The functions of all interfaces.
pub(crate) const FUNCTIONS: [Function; 52] = [
    function("storage.get", "storage", "get", "ii", Storage(4)),
    function("storage.set", "storage", "set", "iiii", Storage(4)),
    function("storage.delete", "storage", "delete", "ii", Storage(4)),
    function("storage.exists", "storage", "exists", "ii", Storage(4)),
    function("storage.list-keys", "storage", "list-keys", "iii", Storage(4)),
    function("storage.usage", "storage", "usage", "", Storage(8)),
    function("extended.open", "extended", "[static]store.open", "ii", Extended(4)),
    function(
        "extended.get-versioned",
        "extended",
        "[method]store.get-versioned",
        "iii",
        Extended(8),
    ),
    function("extended.list-page", "extended", "[method]store.list-page", "iiiiiii", Extended(4)),
    function("extended.get-many", "extended", "[method]store.get-many", "iii", Extended(4)),
    function("extended.create", "extended", "[method]store.create", "iiiii", Extended(8)),
    function("extended.update", "extended", "[method]store.update", "iiiii", Extended(8)),
    function("extended.commit", "extended", "[method]store.commit", "iiiii", Extended(8)),
    function("extended.usage", "extended", "[method]store.usage", "i", Extended(8)),
    function("extended.drop", "", "extended-store", "i", Never),
    function("draft.open", "draft-store", "open", "ii", KeyValue(4)),
    function("draft.get", "draft-store", "[method]bucket.get", "iii", KeyValue(4)),
    function("draft.set", "draft-store", "[method]bucket.set", "iiiii", KeyValue(4)),
    function("draft.delete", "draft-store", "[method]bucket.delete", "iii", KeyValue(4)),
    function("draft.exists", "draft-store", "[method]bucket.exists", "iii", KeyValue(4)),
    function("draft.list-keys", "draft-store", "[method]bucket.list-keys", "iil", KeyValue(8)),
    function("draft.increment", "draft-atomics", "increment", "iiil", KeyValue(8)),
    function("draft.get-many", "draft-batch", "get-many", "iii", KeyValue(4)),
    function("draft.set-many", "draft-batch", "set-many", "iii", KeyValue(4)),
    function("draft.delete-many", "draft-batch", "delete-many", "iii", KeyValue(4)),
    function("draft.drop", "", "draft-bucket", "i", Never),
    function("draft2.open", "draft2-store", "open", "ii", KeyValue(4)),
    function("draft2.get", "draft2-store", "[method]bucket.get", "iii", KeyValue(4)),
    function("draft2.set", "draft2-store", "[method]bucket.set", "iiiii", KeyValue(4)),
    function("draft2.delete", "draft2-store", "[method]bucket.delete", "iii", KeyValue(4)),
    function("draft2.exists", "draft2-store", "[method]bucket.exists", "iii", KeyValue(4)),
    function("draft2.list-keys", "draft2-store", "[method]bucket.list-keys", "iiii", KeyValue(4)),
    function("draft2.increment", "draft2-atomics", "increment", "iiil", KeyValue(8)),
    function("draft2.cas", "draft2-atomics", "[static]cas.new", "iii", KeyValue(4)),
    function("draft2.current", "draft2-atomics", "[method]cas.current", "i", KeyValue(4)),
    function("draft2.swap", "draft2-atomics", "swap", "iii", Swap),
    function("draft2.drop-cas", "", "draft2-cas", "i", Never),
    function("draft2.get-many", "draft2-batch", "get-many", "iii", KeyValue(4)),
    function("draft2.set-many", "draft2-batch", "set-many", "iii", KeyValue(4)),
    function("draft2.delete-many", "draft2-batch", "delete-many", "iii", KeyValue(4)),
    function("draft2.drop", "", "draft2-bucket", "i", Never),
    function("spin.open", "spin", "[static]store.open", "ii", Spin(4)),
    function("spin.get", "spin", "[method]store.get", "iii", Spin(4)),
    function("spin.set", "spin", "[method]store.set", "iiiii", Spin(4)),
    function("spin.delete", "spin", "[method]store.delete", "iii", Spin(4)),
    function("spin.exists", "spin", "[method]store.exists", "iii", Spin(4)),
    function("spin.get-keys", "spin", "[method]store.get-keys", "i", Spin(4)),
    function("spin.drop", "", "spin-store", "i", Never),
    function("config.get", "config", "get", "ii", Never),
    function("config.get-all", "config", "get-all", "", Never),
    function("logging.log", "logging", "log", "iiiii", Never),
    // The same function with the address of its result as an argument.
    function("answer-at", "storage", "get", "iii", Never),
];

/// The name of a function among the component's exports.
pub(crate) fn export(number: usize) -> String {
    format!("f{number}")
}

/// The component's text.
pub(crate) fn text(kind: Kind) -> String {
    let mut text = String::from("(component\n");
    text.push_str(include_str!("wat/storage.wat"));
    text.push_str(include_str!("wat/extended.wat"));
    text.push_str(include_str!("wat/dialects.wat"));
    let upstream = "(option (tuple string (list u8)))";
    let found = if kind.spin { "(tuple string (option (list u8)))" } else { upstream };
    text.push_str(&keyvalue("draft", "0.2.0-draft", "u64", "u64", upstream));
    text.push_str(&keyvalue("draft2", "0.2.0-draft2", "string", "s64", found));
    text.push_str("  (alias export $draft2-atomics \"cas\" (type $draft2-cas))\n");
    text.push_str(include_str!("wat/memory.wat"));
    let (mut imports, mut wrappers, mut lowered, mut exports) =
        (String::new(), String::new(), String::new(), String::new());
    let encoding = match kind.encoding {
        Encoding::Utf8 => "utf8",
        Encoding::Utf16 => "utf16",
        Encoding::Latin1OrUtf16 => "latin1+utf16",
    };
    for (number, function) in FUNCTIONS.iter().enumerate() {
        let parts = Parts { name: export(number), function };
        parts.lower(&mut text, encoding).unwrap();
        parts.import(&mut imports).unwrap();
        parts.wrap(&mut wrappers).unwrap();
        let (name, function) = (&parts.name, function.name);
        writeln!(lowered, "      (export \"{function}\" (func ${name}))").unwrap();
        parts.export(&mut exports).unwrap();
    }
    let calls = include_str!("wat/calls.wat")
        .replace("IMPORTS", &imports)
        .replace("WRAPPERS", &wrappers)
        .replace("LOWERED", &lowered)
        .replace("EXPORTS", &exports);
    text.push_str(&calls);
    text.push(')');
    text.replace("HEAP", &HEAP.to_string()).replace("ANSWER", &ANSWER.to_string())
}

fn keyvalue(draft: &str, version: &str, cursor: &str, delta: &str, found: &str) -> String {
    let swap = if draft == "draft2" { include_str!("wat/swap.wat") } else { "" };
    include_str!("wat/keyvalue.wat")
        .replace("DRAFT", draft)
        .replace("VERSION", version)
        .replace("CURSOR", cursor)
        .replace("DELTA", delta)
        .replace("FOUND", found)
        .replace("SWAP", swap)
}

/// The parts of the component that are about one function.
struct Parts<'a> {
    name: String,
    function: &'a Function,
}

impl Parts<'_> {
    fn is_drop(&self) -> bool {
        self.function.instance.is_empty()
    }

    /// Whether the address of the result is an argument, or there is no result.
    fn needs_no_answer(&self) -> bool {
        self.is_drop() || ["answer-at", "logging.log"].contains(&self.function.name)
    }

    /// The parameters as a component sees them, or as a module does.
    fn parameters(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.function.flat.chars().map(|flat| match flat {
            'l' => ("u64", "i64"),
            _ => ("u32", "i32"),
        })
    }

    fn lower(&self, text: &mut String, encoding: &str) -> std::fmt::Result {
        let (name, Function { instance, import, .. }) = (&self.name, self.function);
        if self.is_drop() {
            return writeln!(text, "  (core func ${name} (canon resource.drop ${import}))");
        }
        writeln!(
            text,
            "  (core func ${name} (canon lower (func ${instance} \"{import}\") (memory $mem) \
             (realloc $realloc) string-encoding={encoding}))"
        )
    }

    fn import(&self, text: &mut String) -> std::fmt::Result {
        let name = self.function.name;
        write!(text, "    (import \"host\" \"{name}\" (func ${name}")?;
        for (_, core) in self.parameters() {
            write!(text, " (param {core})")?;
        }
        let answer = if self.needs_no_answer() { "" } else { " (param i32)" };
        writeln!(text, "{answer}))")
    }

    /// Calls the import, and returns the start of its result.
    fn wrap(&self, text: &mut String) -> std::fmt::Result {
        let name = self.function.name;
        write!(text, "    (func (export \"{}\")", self.name)?;
        for (_, core) in self.parameters() {
            write!(text, " (param {core})")?;
        }
        write!(text, " (call $forget) (call ${name}")?;
        for (number, _) in self.parameters().enumerate() {
            write!(text, " (local.get {number})")?;
        }
        let answer = if self.needs_no_answer() { "" } else { " (i32.const ANSWER)" };
        writeln!(text, "{answer}))")
    }

    fn export(&self, text: &mut String) -> std::fmt::Result {
        let name = &self.name;
        write!(text, "  (func (export \"{name}\")")?;
        for (number, (component, _)) in self.parameters().enumerate() {
            write!(text, " (param \"p{number}\" {component})")?;
        }
        writeln!(text, " (canon lift (core func $calls \"{name}\")))")
    }
}
