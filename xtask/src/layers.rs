//! Who may use whom in `grayxdp/src`: found by reading the paths in its files.

mod tokens;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use tokens::{Token, tokens};

/// A folder of `grayxdp/src` and the folders that it may use.
struct Layer {
    name: &'static str,
    uses: &'static [&'static str],
}

const PURE: &[&str] = &["model", "config", "balance", "analysis", "rollout"];

const LAYERS: [Layer; 15] = [
    Layer { name: "model", uses: &[] },
    Layer { name: "config", uses: &["model", "balance"] },
    Layer { name: "balance", uses: &["model"] },
    Layer { name: "analysis", uses: &["model"] },
    Layer { name: "rollout", uses: &["model", "config", "balance", "analysis"] },
    Layer { name: "datapath", uses: PURE },
    Layer { name: "health", uses: PURE },
    Layer { name: "providers", uses: PURE },
    Layer { name: "store", uses: PURE },
    Layer { name: "telemetry", uses: PURE },
    Layer {
        name: "daemon",
        uses: &[
            "model",
            "config",
            "balance",
            "analysis",
            "rollout",
            "datapath",
            "health",
            "providers",
            "store",
            "telemetry",
        ],
    },
    Layer { name: "control", uses: &["model", "providers", "telemetry", "daemon"] },
    Layer { name: "dashboard", uses: &["model", "telemetry", "daemon"] },
    Layer { name: "lab", uses: &["model"] },
    Layer { name: "cli", uses: &["model", "config", "control", "lab"] },
];

/// Files that may use more than their layer: the one that starts the daemon, or detaches where none runs, and those that ask
/// the engine without a daemon.
const STARTERS: [(&str, &[&str]); 3] = [
    ("cli/daemon.rs", &["daemon", "datapath", "telemetry"]),
    ("cli/files.rs", &["rollout"]),
    ("cli/simulate.rs", &["rollout"]),
];

/// Crates, and the only folders that may know them.
const CRATES: [(&str, &[&str]); 4] = [("aya", &["datapath"]), ("tokio", SHELL), ("axum", SHELL), ("hyper", SHELL)];
const SHELL: &[&str] =
    &["daemon", "control", "dashboard", "cli", "telemetry", "health", "providers", "datapath", "lab"];

/// Types whose `now()` reads a clock, and the only folders that may call it.
const CLOCKS: [&str; 4] = ["Instant", "SystemTime", "Timestamp", "Zoned"];
const MAY_READ_CLOCKS: &[&str] = &["daemon", "control", "cli", "lab"];

/// Where `unsafe` may be written: folders, and single files.
const MAY_BE_UNSAFE: &[&str] = &["datapath", "lab"];
const UNSAFE_FILES: &[&str] = &["daemon/memory.rs"];

/// A breach of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    file: PathBuf,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grayxdp/src/{}:{}: {}", self.file.display(), self.line, self.rule)
    }
}

/// Reads all files of `grayxdp/src` and returns the breaches, by file and line.
pub(crate) fn check(workspace: &Path) -> anyhow::Result<Vec<Violation>> {
    let root = workspace.join("grayxdp/src");
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut violations = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let inside = file.strip_prefix(&root).expect("it was found there");
        violations.extend(check_file(inside, &text));
    }
    Ok(violations)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The breaches of one file; `file` is its path below `grayxdp/src`.
fn check_file(file: &Path, text: &str) -> Vec<Violation> {
    let module = module_of(file);
    let Some(own) = module.first() else { return Vec::new() };
    let violation = |line, rule| Violation { file: file.to_owned(), line, rule };
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == own) else {
        let rule = format!("`{own}` is no layer: add it to xtask/src/layers.rs with what it may use");
        return vec![violation(1, rule)];
    };
    let tokens = tokens(text);
    let mut found = Vec::new();
    for Reference { line, target } in references(&module, &tokens) {
        let starts_daemon =
            STARTERS.iter().any(|(starter, uses)| file == Path::new(starter) && uses.contains(&target.as_str()));
        let known = LAYERS.iter().any(|layer| layer.name == target);
        if known && target != layer.name && !layer.uses.contains(&target.as_str()) && !starts_daemon {
            found.push(violation(line, format!("`{own}` must not use `{target}`")));
        }
    }
    let tests = tests_begin(file, &tokens);
    for (index, token) in tokens.iter().enumerate() {
        let clock = forbidden_clock(own, &tokens[index..]).filter(|_| index < tests);
        if let Some(rule) = forbidden_word(file, own, &tokens[index..]).or(clock) {
            found.push(violation(token.line, rule));
        }
    }
    found.sort_by_key(|violation| violation.line);
    found
}

/// The rule that the first of these tokens breaks, if any.
fn forbidden_word(file: &Path, own: &str, tokens: &[Token<'_>]) -> Option<String> {
    let word = tokens[0].text;
    let follows = |index: usize, text: &str| tokens.get(index).is_some_and(|token| token.text == text);
    if let Some((_, users)) = CRATES.iter().find(|(name, _)| *name == word)
        && follows(1, "::")
        && !users.contains(&own)
    {
        return Some(format!("`{own}` must not know `{word}`: only {} may", users.join(", ")));
    }
    let unsafe_here = MAY_BE_UNSAFE.contains(&own) || UNSAFE_FILES.iter().any(|allowed| file == Path::new(allowed));
    (word == "unsafe" && !unsafe_here).then(|| format!("`{own}` must not hold `unsafe` code"))
}

/// The rule about clocks, if the first of these tokens breaks it.
fn forbidden_clock(own: &str, tokens: &[Token<'_>]) -> Option<String> {
    let word = tokens[0].text;
    let follows = |index: usize, text: &str| tokens.get(index).is_some_and(|token| token.text == text);
    let reads = CLOCKS.contains(&word) && follows(1, "::") && follows(2, "now") && !MAY_READ_CLOCKS.contains(&own);
    reads.then(|| format!("`{own}` must not read a clock (`{word}::now`): time comes in as an argument"))
}

/// Index of the token with which a file's tests begin, which may measure time: they come last in a file.
fn tests_begin(file: &Path, tokens: &[Token<'_>]) -> usize {
    if file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests")) {
        return 0;
    }
    let begin = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let is_begin = |window: &[Token<'_>]| window.iter().map(|token| token.text).eq(begin);
    tokens.windows(begin.len()).position(is_begin).unwrap_or(tokens.len())
}

/// `datapath/maps.rs` is the module `datapath`, `maps`; `datapath/mod.rs` is `datapath`.
fn module_of(file: &Path) -> Vec<String> {
    let whole = file.with_extension("");
    let mut module: Vec<String> = whole.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
        module.pop();
    }
    module
}

/// A place that names something of another folder, or of its own.
struct Reference {
    line: usize,
    target: String,
}

/// All paths that begin with `crate` or `super`, resolved to the folder that they lead to.
fn references(module: &[String], tokens: &[Token<'_>]) -> Vec<Reference> {
    let mut found = Vec::new();
    // How many braces were open when each inline module began.
    let mut inline: Vec<usize> = Vec::new();
    let mut open_braces = 0;
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let next_is = |text: &str| tokens.get(index + 1).is_some_and(|next| next.text == text);
        match token.text {
            "{" => open_braces += 1,
            "}" => {
                open_braces -= 1;
                inline.pop_if(|begin| *begin == open_braces);
            }
            "mod" if tokens.get(index + 2).is_some_and(|brace| brace.text == "{") => inline.push(open_braces),
            "crate" if next_is("::") => {
                found.extend(first_words(&tokens[index + 2..]));
            }
            "super" if next_is("::") => {
                let mut depth = module.len() + inline.len();
                while tokens.get(index).is_some_and(|token| token.text == "super") {
                    depth = depth.saturating_sub(1);
                    index += 2;
                }
                if depth == 0 {
                    found.extend(first_words(&tokens[index..]));
                }
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    found
}

/// The first word of a path, or of each path of a group.
fn first_words(tokens: &[Token<'_>]) -> Vec<Reference> {
    let reference = |token: &Token<'_>| Reference { line: token.line, target: token.text.to_owned() };
    match tokens.first() {
        None => Vec::new(),
        Some(token) if token.text != "{" => vec![reference(token)],
        Some(_) => {
            let mut depth = 0_usize;
            let mut begins = false;
            let mut found = Vec::new();
            for token in tokens {
                match token.text {
                    "{" => {
                        depth += 1;
                        begins = depth == 1;
                    }
                    "}" if depth == 1 => break,
                    "}" => depth -= 1,
                    "," => begins = depth == 1,
                    _ if begins => {
                        found.push(reference(token));
                        begins = false;
                    }
                    _ => {}
                }
            }
            found
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line and rule of each breach.
    fn breaches(file: &str, text: &str) -> Vec<(usize, String)> {
        check_file(Path::new(file), text).into_iter().map(|violation| (violation.line, violation.rule)).collect()
    }

    #[track_caller]
    fn is_fine(file: &str, text: &str) {
        assert_eq!(breaches(file, text), vec![]);
    }

    #[test]
    fn a_layer_may_use_those_below_itself_and_itself() {
        is_fine("rollout/step.rs", "use crate::{model::{Name, plan::Plan}, rollout::state, balance};");
        is_fine("config/mod.rs", "mod read;\npub use read::read;\nuse super::model::Name;");
        is_fine("daemon/run.rs", "fn f() { crate::datapath::open(); crate::store::open(); }");
        is_fine("cli/daemon.rs", "use crate::daemon::Daemon;");
    }

    #[test]
    fn importing_upwards_names_file_line_and_rule() {
        let found = check_file(Path::new("model/name.rs"), "//! Names.\n\nuse crate::config::Checked;\n");
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["grayxdp/src/model/name.rs:3: `model` must not use `config`"]
        );
    }

    #[test]
    fn groups_single_paths_and_super_are_all_seen() {
        let rule = |target: &str| format!("`store` must not use `{target}`");
        let text = "use crate::{\n    model::Name,\n    datapath::{maps, links},\n    telemetry,\n};";
        assert_eq!(breaches("store/mod.rs", text), [(3, rule("datapath")), (4, rule("telemetry"))]);
        assert_eq!(breaches("store/mod.rs", "fn f() -> crate::daemon::D {}"), [(1, rule("daemon"))]);
        assert_eq!(breaches("store/journal.rs", "use super::super::cli;"), [(1, rule("cli"))]);
        let tests = "mod tests {\n    use super::*;\n    use super::super::super::control::X;\n}\nuse super::row;";
        assert_eq!(breaches("store/journal.rs", tests), [(3, rule("control"))]);
    }

    #[test]
    fn only_its_own_file_starts_the_daemon() {
        assert_eq!(breaches("cli/status.rs", "use crate::daemon::X;").len(), 1);
    }

    #[test]
    fn outside_crates_clocks_and_unsafe_code_have_their_places() {
        is_fine("datapath/load.rs", "use aya::Ebpf; fn f() { unsafe { g() } }");
        is_fine("daemon/memory.rs", "fn f() { Instant::now(); unsafe { g() } }");
        for (text, word) in [
            ("use aya::Ebpf;", "aya"),
            ("async fn f() { tokio::time::sleep(x).await }", "tokio"),
            ("let t = jiff::Timestamp::now();", "Timestamp::now"),
            ("unsafe { g() }", "unsafe"),
        ] {
            let found = breaches("rollout/step.rs", text);
            assert!(found.len() == 1 && found[0].1.contains(word), "{text}: {found:?}");
        }
    }

    #[test]
    fn tests_may_measure_time_and_nothing_else_that_is_forbidden() {
        is_fine("balance/slots.rs", "fn f() {}\n#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }");
        is_fine("balance/slot_tests.rs", "fn f() { Instant::now(); }");
        assert_eq!(breaches("balance/slots.rs", "#[cfg(test)]\nmod tests { use tokio::task; }").len(), 1);
    }

    #[test]
    fn comments_and_texts_break_no_rule() {
        let text =
            "// crate::daemon\n/* aya:: /* unsafe */ */ let a = \"crate::cli::x \\\" unsafe\"; let b = r#\"tokio::\"#;";
        is_fine("model/mod.rs", text);
        is_fine("model/mod.rs", "fn f<'a>(c: char) -> &'a str { if c == '\"' { \"unsafe\" } else { \"x\" } }");
    }

    #[test]
    fn a_folder_that_no_rule_knows_is_a_breach() {
        assert!(breaches("helpers/mod.rs", "")[0].1.contains("no layer"));
    }
}
