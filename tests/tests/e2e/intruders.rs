//! What a daemon finds and must not touch: another daemon, strange pins, a damaged journal, no rights, an old kernel.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

use grayxdp_tests::{
    size::grayxdp,
    stand::{PIN_DIR, Setup, Stand, assert_one_line, eventually},
};

use crate::old_kernel;

/// A user without any rights.
const NOBODY: u32 = 65_534;

/// A second configuration, with the given replacements.
fn other_configuration(stand: &Stand, replacements: &[(&str, &str)]) -> std::path::PathBuf {
    let folder = stand.config_file().parent().unwrap().display().to_string();
    let mut text = stand.configuration().replace("grayxdp.sock", "other.sock").replace(":9477", ":9478");
    for (from, to) in replacements {
        text = text.replace(from, to);
    }
    assert!(text.contains(&folder));
    stand.write("other.yaml", &text)
}

/// A daemon with this configuration refuses with one line that has these words, and nothing changes.
fn is_refused(stand: &Stand, config: &Path, words: &[&str]) {
    let before = stand.snapshot();
    assert_one_line(&stand.refused(&mut stand.daemon_command(config)), 1, words);
    stand.assert_unchanged(&before, &words.join(" "));
}

/// Ends the daemon in order: the journal is one file then.
fn end(stand: &mut Stand) {
    stand.signal(libc::SIGTERM);
    assert!(stand.wait_for_end().success());
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let mut stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    is_refused(&stand, &stand.config_file(), &["grayxdp.sock", "another daemon"]);
    let other = other_configuration(&stand, &[]);
    is_refused(&stand, &other, &["state", "another grayxdp daemon"]);
    let other = other_configuration(&stand, &[("grayxdp-stand\n", "grayxdp-other\n")]);
    is_refused(&stand, &other, &["state", "another grayxdp daemon"]);
    assert!(stand.is_alive());
    assert_eq!(running.stop().failed(), 0);
    assert!((stand.v2() - 30.0).abs() < f64::EPSILON, "the first one goes on");
}

#[test]
fn a_second_daemon_with_a_state_of_its_own_gets_neither_interfaces_nor_pins() {
    let mut stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    let before = stand.snapshot();
    // Pins of its own: the interfaces are taken.
    for mode in ["mode: native", "mode: auto", "mode: generic"] {
        let pins = ("grayxdp-stand\n", "grayxdp-other\n");
        let elsewhere = other_configuration(&stand, &[("/state\n", "/state-2\n"), pins, ("mode: native", mode)]);
        let output = stand.refused(&mut stand.daemon_command(&elsewhere));
        assert_one_line(&output, 1, &["client0", "another XDP program"]);
        let left = stand.lab().balancer().run(|| fs::read_dir("/sys/fs/bpf/grayxdp-other").map_or(0, Iterator::count));
        assert_eq!(left, 0, "nothing stays pinned");
    }
    // The same pins, by another key: no key of its own is made.
    let same_pins = other_configuration(&stand, &[("/state\n", "/state-3\n")]);
    assert_one_line(&stand.refused(&mut stand.daemon_command(&same_pins)), 1, &["state-3", "key"]);
    // The same pins, by the same key.
    fs::create_dir(stand.file("state-4")).unwrap();
    fs::copy(stand.file("state/hash.key"), stand.file("state-4/hash.key")).unwrap();
    let same_key = other_configuration(&stand, &[("/state\n", "/state-4\n")]);
    assert_one_line(&stand.refused(&mut stand.daemon_command(&same_key)), 1, &[PIN_DIR, "another grayxdp daemon"]);
    let after = stand.snapshot();
    assert_eq!((after.pins, after.programs), (before.pins, before.programs));
    assert!(stand.is_alive());
    assert_eq!(running.stop().failed(), 0);
    stand.set_v2(40);
}

#[test]
fn a_damaged_journal_is_named_and_left_as_it_is() {
    let mut stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    end(&mut stand);
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    let journal = stand.file("state/journal.db");
    let whole = fs::read(&journal).unwrap();
    let flipped = {
        let mut bytes = whole.clone();
        let half = bytes.len() / 2;
        bytes[half - 200..].iter_mut().for_each(|byte| *byte ^= 0x5a);
        bytes
    };
    for damaged in [flipped, whole[..whole.len() / 3].to_vec(), b"not a journal at all".repeat(300)] {
        fs::write(&journal, damaged).unwrap();
        is_refused(&stand, &stand.config_file(), &["journal.db"]);
    }
    fs::write(&journal, &whole).unwrap();
    stand.start();
    assert!((stand.v2() - 30.0).abs() < f64::EPSILON);
    assert_eq!(running.stop().failed(), 0);
}

#[test]
fn a_key_that_is_missing_or_was_changed_is_named_while_pins_are_there() {
    let mut stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    end(&mut stand);
    let key = stand.file("state/hash.key");
    let right = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    is_refused(&stand, &stand.config_file(), &["hash.key", "missing"]);
    let write = |bytes: &[u8], mode| {
        fs::write(&key, bytes).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(&[7; 32], 0o600);
    is_refused(&stand, &stand.config_file(), &["key"]);
    write(&right[..31], 0o600);
    is_refused(&stand, &stand.config_file(), &["hash.key", "31"]);
    write(&right, 0o644);
    is_refused(&stand, &stand.config_file(), &["hash.key", "0644"]);
    write(&right, 0o600);
    assert_eq!(stand.send(100).failed(), 0, "the kernel forwards all the while");
    stand.start();
}

#[test]
fn pins_of_another_layout_are_named_and_left_as_they_are() {
    let mut stand = Stand::running(Setup::default());
    end(&mut stand);
    let maps = stand.snapshot().pins.into_iter().find(|pin| pin.ends_with("CONTROL")).unwrap();
    let folder = maps.parent().unwrap().to_owned();
    let rename = |from: &Path, to: &Path| stand.lab().balancer().run(|| fs::rename(from, to).unwrap());
    // A map of another shape under a name that is known.
    rename(&maps, &folder.join("aside"));
    rename(&folder.join("REASONS"), &maps);
    is_refused(&stand, &stand.config_file(), &["CONTROL", "layout"]);
    rename(&maps, &folder.join("REASONS"));
    rename(&folder.join("aside"), &maps);
    // Pins of another release.
    let other = Path::new(PIN_DIR).join("abi-999");
    stand.lab().balancer().run(|| fs::create_dir(&other).unwrap());
    is_refused(&stand, &stand.config_file(), &["abi-999", "layout"]);
    stand.lab().balancer().run(|| fs::remove_dir(&other).unwrap());
    assert_eq!(stand.send(100).failed(), 0);
    stand.start();
}

/// The command of a daemon that runs as nobody, by a copy of the binary that nobody can reach.
fn as_nobody(stand: &Stand) -> Command {
    let binary = stand.file("copy.log");
    fs::copy(grayxdp(), &binary).unwrap();
    let mut command = stand.lab().balancer().command(&binary);
    command.arg("daemon").arg("--config").arg(stand.config_file());
    let drop_rights = || {
        // SAFETY: system calls that take numbers and a null pointer; nothing is allocated.
        let dropped = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0
        };
        if dropped { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only the system calls above are made.
    unsafe { command.pre_exec(drop_rights) };
    command
}

#[test]
fn a_user_without_rights_is_told_what_is_missing() {
    let stand = Stand::new(Setup::default());
    let folder = stand.config_file().parent().unwrap().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = as_nobody(&stand);
    let before = stand.snapshot();
    // Its own folder is not writable.
    assert_one_line(&stand.refused(&mut command), 1, &[&folder.display().to_string(), "Permission denied"]);
    stand.assert_unchanged(&before, "no folder");
    // With one, that for pins is not.
    chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let balancer = stand.lab().balancer();
    balancer.run(|| fs::set_permissions("/sys/fs/bpf", fs::Permissions::from_mode(0o755)).unwrap());
    assert_one_line(&stand.refused(&mut command), 1, &[PIN_DIR, "root"]);
    // With both, the program is.
    balancer.run(|| fs::create_dir(PIN_DIR).and_then(|()| chown(PIN_DIR, Some(NOBODY), Some(NOBODY))).unwrap());
    assert_one_line(&stand.refused(&mut command), 1, &["CAP_BPF", "CAP_NET_ADMIN"]);
    stand.assert_free();
}

#[test]
fn a_kernel_without_links_is_refused_and_nothing_stays_attached() {
    let stand = Stand::new(Setup::default());
    let mut command = stand.daemon_command(&stand.config_file());
    old_kernel::without_links(&mut command);
    assert_one_line(&stand.refused(&mut command), 1, &["kernel", "5.10"]);
    stand.assert_free();
}

#[test]
fn pins_that_somebody_removes_are_missed_and_made_again() {
    let mut stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let epoch = stand.service().epoch;
    stand.lab().balancer().output("rm", ["-rf", PIN_DIR]).unwrap();
    let events = || stand.done(&["events"]);
    eventually("the program in place again", events, |events| events.contains("interfaceMended"));
    assert!(events().contains("interfaceLost"));
    assert_eq!(stand.send(200).failed(), 0);
    assert_eq!(stand.status().warnings, Vec::<String>::new());
    // The next daemon adopts what was pinned again.
    stand.kill();
    stand.start();
    assert_eq!((stand.service().epoch, stand.v2()), (epoch, 30.0));
    assert_eq!(stand.send(200).failed(), 0);
}

#[test]
fn a_first_start_that_is_refused_leaves_the_weights_of_the_file_initial() {
    let mut stand = Stand::new(Setup { v2_weight: 30, ..Setup::default() });
    let good = stand.configuration();
    // The interfaces carry another program already, so attaching fails after everything else went well.
    let taken = stand.config_file();
    let blocker = stand.write("blocker.yaml", &other_text(&good));
    let mut other = stand.daemon_command(&blocker).spawn().unwrap();
    let busy = || stand.lab().balancer().run(|| fs::read_dir("/sys/fs/bpf/grayxdp-other").map_or(0, Iterator::count));
    grayxdp_tests::stand::eventually("the other daemon is attached", busy, |count| *count > 0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_one_line(&stand.refused(&mut stand.daemon_command(&taken)), 1, &["client0", "another XDP program"]);
    other.kill().unwrap();
    other.wait().unwrap();
    stand.lab().balancer().run(|| {
        for folder in fs::read_dir("/sys/fs/bpf/grayxdp-other").unwrap() {
            fs::remove_dir_all(folder.unwrap().path()).unwrap();
        }
    });
    stand.configure(&Setup { v2_weight: 70, ..Setup::default() });
    stand.start();
    assert!((stand.v2() - 70.0).abs() < f64::EPSILON, "the refused start's 30 % were never applied");
    assert_eq!(stand.service().drift, None);
}

/// A configuration that touches nothing of the first but its interfaces.
fn other_text(text: &str) -> String {
    text.replace("grayxdp.sock", "other.sock")
        .replace(":9477", ":9478")
        .replace("/state\n", "/state-2\n")
        .replace("grayxdp-stand\n", "grayxdp-other\n")
}
