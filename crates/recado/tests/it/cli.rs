//! The command line: its output, its refusals and its files, with and without a running server.

mod backup;
mod broken_sandbox;
mod completions;
mod config;
mod csv;
mod data;
mod doctor;
mod events;
mod failures;
mod keep;
mod lost_log;
mod messages;
mod migrate_store;
mod read_only;
mod remote;
mod restore;
mod secrets;
mod send;
mod serve;
mod status;
mod webhooks;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Ended, Home, recado};
use crate::v1::{ALL_SCOPES, CARD, NO_CHANNEL, Stage, UNAUTHORIZED, assert_refused, create_key, text};

/// Runs a command on this data directory.
fn run_in(dir: &str, args: &[&str]) -> Output {
    recado().args(args).args(["--data-dir", dir]).ended()
}

/// A command that must fail with this code, print these words on standard error, and print nothing on standard output.
#[track_caller]
fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stdout)), (Some(code), ""), "{stderr}");
    // With --json it is an object.
    let told = serde_json::from_str::<Value>(&stderr).ok().and_then(|told| Some(told["message"].as_str()?.to_owned()));
    let told = told.unwrap_or_else(|| stderr.to_string());
    for word in words {
        assert!(told.contains(word) || stderr.contains(word), "no {word:?} in {stderr:?}");
    }
    for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!stderr.contains(noise), "{stderr}");
    }
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}

#[test]
fn init_prints_its_keys_and_refuses_a_second_time() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path().join("a/b/data");
    let dir = dir.to_str().expect("UTF-8");
    let output = run_in(dir, &["init", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let fields: Vec<_> = printed.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["institutionId", "testKey", "liveKey", "sandboxChannel"]);
    assert!(
        text(&printed, "testKey").starts_with("oapi_sk_test_")
            && text(&printed, "liveKey").starts_with("oapi_sk_live_")
    );
    assert_eq!(printed["sandboxChannel"], "sandbox");
    let before = std::fs::read(Path::new(dir).join("recado.db")).expect("a store");
    for _ in 0..2 {
        assert_fails(&run_in(dir, &["init", "--json"]), 1, &["recado.db", "already"]);
    }
    assert_eq!(std::fs::read(Path::new(dir).join("recado.db")).expect("a store"), before, "the store was touched");
    // Only the owner may read hashes of keys and people's numbers.
    assert_eq!(mode(Path::new(dir)), 0o700);
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        // The lock's file is empty, so there is nothing to read.
        if path.metadata().expect("metadata").len() > 0 {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[test]
fn files_of_a_running_server_are_its_owner_s() {
    let stage = Stage::set();
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    for entry in std::fs::read_dir(&stage.home.dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if name != "recado.lock" {
            assert_eq!(mode(&path), 0o600, "{name}");
        }
    }
    assert_eq!(mode(&stage.home.dir.join("recado.sock")), 0o600);
    assert_eq!(mode(&stage.home.dir), 0o700);
}

/// Every query of a person, with the same answers from a running server and from the store alone.
fn commands_work(home: &Home) {
    let institution = home.cli(&["institutions", "create", "--name", "Second"]);
    let fields: Vec<_> = institution.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["id", "testKey", "liveKey", "sandboxChannel"]);
    let id = text(&institution, "id");
    let named = ["--institution", id];
    let cli = |args: &[&str]| home.cli(&[args, &named].concat());
    let institutions = home.cli(&["institutions", "list"]);
    assert_eq!(institutions.as_array().expect("a list").last().expect("the new one")["id"], id);

    let limits =
        ["--scopes", "messages.read,messages.send", "--rate-limit", "7", "--expires-at", "2099-01-01T00:00:00Z"];
    let key = cli(&[&["keys", "create", "--name", "abc", "--environment", "test"], &limits[..]].concat());
    assert_eq!(key.as_object().expect("an object").keys().collect::<Vec<_>>(), ["id", "key"]);
    let keys = cli(&["keys", "list"]);
    let listed = keys.as_array().expect("a list").iter().find(|row| row["id"] == key["id"]).expect("the key");
    let shown = (&listed["name"], &listed["rateLimit"], &listed["permissions"], &listed["expiresAt"]);
    let scopes = json!(["messages.send", "messages.read"]);
    assert_eq!(shown, (&json!("abc"), &json!(7), &scopes, &json!("2099-01-01T00:00:00.000Z")));
    assert!(!keys.to_string().contains(text(&key, "key")), "a key is shown again");
    cli(&["keys", "revoke", text(&key, "id")]);
    assert_eq!(cli(&["keys", "list"]).as_array().expect("a list").len(), 2);

    let channel = cli(&["channels", "create", "--name", "Canal", "--type", "SANDBOX", "--id", "canal"]);
    assert_eq!((&channel["id"], &channel["state"]), (&json!("canal"), &json!("CREATED")));
    for (step, state) in
        [("connect", "CONNECTED"), ("pause", "PAUSED"), ("resume", "CONNECTED"), ("disconnect", "DISCONNECTED")]
    {
        assert_eq!(cli(&["channels", step, "canal"])["state"], state);
        assert_eq!(cli(&["channels", "show", "canal"])["state"], state);
    }
    let ids: Vec<_> =
        cli(&["channels", "list"]).as_array().expect("a list").iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["sandbox", "canal"]);
    cli(&["channels", "delete", "canal"]);
    assert_eq!(cli(&["channels", "list"]).as_array().expect("a list").len(), 1);
}

/// Every refusal, with the same texts with and without a server.
fn commands_refuse(home: &Home) {
    let create = |more: &[&str]| run_in(home.dir(), &[&["keys", "create"], more].concat());
    let first = ["--institution", &home.institution];
    let key = |name: &str, scopes: &str, rate: &str, end: &str| {
        let args =
            ["--name", name, "--environment", "test", "--scopes", scopes, "--rate-limit", rate, "--expires-at", end];
        create(&[&args[..], &first].concat())
    };
    let end = "2099-01-01T00:00:00Z";
    assert_fails(&key("ab", "messages.read", "7", end), 1, &["3 to 100"]);
    assert_fails(&key("abc", "messages.reed", "7", end), 1, &["messages.reed"]);
    assert_fails(&key("abc", "messages.read", "0", end), 1, &["10000"]);
    assert_fails(&key("abc", "messages.read", "7", "2020-01-01T00:00:00Z"), 1, &["future"]);
    assert_fails(&key("abc", "messages.read", "many", end), 2, &["unlimited"]);
    let channel = |args: &[&str]| run_in(home.dir(), &[&["channels"], args, &first].concat());
    assert_fails(&channel(&["create", "--name", "x", "--type", "SANDBOX", "--id", "sandbox"]), 1, &["reserved"]);
    assert_fails(&channel(&["create", "--name", "x", "--type", "TELEGRAM"]), 1, &["WHATSAPP_WABA"]);
    assert_fails(&channel(&["create", "--name", "x", "--type", "WHATSAPP_WABA"]), 1, &["RECADO_SECRET_KEY"]);
    let missing = if cfg!(feature = "whatsapp-web") { "RECADO_SECRET_KEY" } else { "./dev run --whatsapp-web" };
    assert_fails(&channel(&["create", "--name", "x", "--type", "WHATSAPP_BAILEYS"]), 1, &[missing]);
    assert_fails(&channel(&["delete", "sandbox"]), 1, &["cannot be deleted"]);
    assert_fails(&channel(&["show", "nowhere"]), 1, &["There is no such channel"]);
    let revoke = run_in(home.dir(), &[&["keys", "revoke", "x"], &first[..]].concat());
    assert_fails(&revoke, 1, &["There is no such API key"]);
    let stranger = run_in(home.dir(), &["keys", "list", "--institution", "x"]);
    assert_fails(&stranger, 1, &["There is no such institution"]);
    // With two institutions, one must be named, except for a list.
    let create = ["channels", "create", "--name", "x", "--type", "SANDBOX"];
    assert_fails(&run_in(home.dir(), &create), 1, &["--institution"]);
    let all = home.cli(&["institutions", "list"]);
    let second = all.as_array().and_then(|all| all.last()).expect("the second one").clone();
    for what in ["channels", "keys"] {
        let listed = home.cli(&[what, "list"]);
        let of = |institution: &str| {
            let rows = listed.as_array().expect("a list");
            rows.iter().filter(|row| row["institutionId"] == institution).count()
        };
        let wanted = if what == "keys" { 2 } else { 1 };
        // The first institution may have keys of the test.
        assert!(of(&home.institution) >= wanted, "{what}: {listed}");
        assert_eq!(of(text(&second, "id")), wanted, "{what}: {listed}");
        let one = home.cli(&[what, "list", "--institution", text(&second, "id")]);
        assert!(one[0].get("institutionId").is_none(), "{one}");
    }
}

#[test]
fn failures_for_programs_have_a_code() {
    let home = Home::init();
    let told = |args: &[&str], code: i32| {
        let output = run_in(home.dir(), &[args, &["--json"]].concat());
        assert_fails(&output, code, &[]);
        serde_json::from_slice::<Value>(&output.stderr).unwrap_or_else(|error| panic!("no JSON ({error}): {output:?}"))
    };
    let expected = json!({"code": "CHANNEL_NOT_FOUND", "message": "There is no such channel."});
    assert_eq!(told(&["channels", "show", "nowhere"], 1), expected);
    let create = ["channels", "create", "--name", "x", "--type", "SANDBOX", "--id", "a b"];
    let invalid = told(&create, 1);
    let fault =
        json!([{"field": "id", "message": "The channel's id must have 1 to 64 characters: letters, digits, _ and -."}]);
    assert_eq!((&invalid["code"], &invalid["errors"]), (&json!("VALIDATION_ERROR"), &fault));
    assert_eq!(told(&["events", "list", "--from", "yesterday"], 1)["errors"][0]["field"], "from");
    // Something that the API does not know.
    assert_eq!(told(&["backup", "--to", home.dir()], 1)["code"], "FAILED");
    let send = ["send", "text", "--channel", "sandbox", "--to", "5511999998888", "--content", "a", "--wait"];
    assert_eq!(told(&send, 4)["code"], "NO_ANSWER");
    assert_eq!(told(&["channels", "show"], 2)["code"], "USAGE");
}

#[test]
fn commands_work_without_a_server() {
    let home = Home::init();
    commands_work(&home);
    commands_refuse(&home);
    assert!(!home.dir.join("recado.sock").exists());
}

#[test]
fn commands_work_with_a_server() {
    let stage = Stage::set();
    commands_work(&stage.home);
    commands_refuse(&stage.home);
}

#[test]
fn a_command_takes_effect_at_the_next_call() {
    let stage = Stage::set();
    let home = &stage.home;
    let key = create_key(home, "test", ALL_SCOPES, "unlimited");
    stage.send_with(&key, "sandbox", &[], CARD).expect(202);
    let keys = home.cli(&["keys", "list"]);
    // The newest test key; live keys come last.
    let mut tests = keys.as_array().expect("a list").iter().filter(|row| row["environment"] == "test");
    home.cli(&["keys", "revoke", text(tests.next_back().expect("a key"), "id")]);
    assert_refused("revoked", &stage.send_with(&key, "sandbox", &[], CARD), UNAUTHORIZED);
    stage.send("sandbox", &[], CARD).expect(202);

    assert_refused("not made yet", &stage.send("new", &[], CARD), NO_CHANNEL);
    home.cli(&["channels", "create", "--name", "x", "--type", "SANDBOX", "--id", "new"]);
    home.cli(&["channels", "connect", "new"]);
    let read = stage.accept("new", &[], CARD);
    stage.until(&read, "READ");
    home.cli(&["channels", "pause", "new"]);
    let held = stage.accept("new", &[], CARD);
    assert_eq!(stage.data(&held)["status"], "QUEUED");
    home.cli(&["channels", "resume", "new"]);
    stage.until(&held, "READ");
    home.cli(&["channels", "delete", "new"]);
    assert_refused("deleted", &stage.send("new", &[], CARD), NO_CHANNEL);

    let other = home.cli(&["institutions", "create", "--name", "Another", "--rate-limit", "unlimited"]);
    let answer = stage.send_with(text(&other, "testKey"), "sandbox", &[], CARD).expect(202);
    assert_eq!(answer.header("RateLimit-Limit"), None);
}

#[test]
fn without_a_store_nothing_works_and_nothing_is_made() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let nowhere = place.path().join("nowhere");
    for args in
        [&["serve", "--listen", "127.0.0.1:0"][..], &["keys", "list"], &["channels", "list"], &["institutions", "list"]]
    {
        for dir in [place.path(), &nowhere] {
            let dir = dir.to_str().expect("UTF-8");
            assert_fails(&run_in(dir, args), 1, &["no store", dir, "recado init"]);
        }
    }
    assert_eq!(std::fs::read_dir(place.path()).expect("a directory").count(), 0, "something was made");
}

/// A variable may hold a secret: help shows its name, and never its value.
#[test]
fn help_shows_no_values_of_variables() {
    const MARK: &str = "127.0.0.1:54321";
    let commands = [
        &[][..],
        &["init"],
        &["serve"],
        &["institutions"],
        &["institutions", "create"],
        &["keys"],
        &["keys", "create"],
        &["keys", "revoke"],
        &["channels"],
        &["channels", "create"],
        &["channels", "delete"],
        &["messages", "list"],
        &["messages", "watch"],
        &["send", "contact"],
        &["sandbox", "messages"],
        &["secrets", "rotate"],
        &["doctor"],
        &["version"],
    ];
    let serve = recado().args(["serve", "--help"]).ended();
    let serve = String::from_utf8(serve.stdout).expect("UTF-8");
    let variables: Vec<_> = serve
        .split(|letter: char| !letter.is_ascii_uppercase() && letter != '_')
        .filter(|word| word.starts_with("RECADO_"))
        .collect();
    assert!(variables.len() > 5, "{serve}");
    for args in commands {
        for flag in ["--help", "-h"] {
            let mut command = recado();
            command.envs(variables.iter().map(|name| (name, MARK)));
            let output = command.args(args).arg(flag).ended();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert_eq!((output.status.code(), printed.contains("Usage")), (Some(0), true), "{args:?}: {printed}");
            assert!(!printed.contains(MARK), "{args:?} shows a value: {printed}");
        }
    }
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    for args in [
        &[][..],
        &["no-such"],
        &["serve", "--no-such"],
        &["serve", "--listen", "nowhere"],
        &["keys", "create"],
        &["serve", "--message-ttl", "0s"],
        &["serve", "--message-ttl", "soon"],
        &["serve", "--unknown-fields", "drop"],
        &["serve", "--auth-failures", "0"],
        &["serve", "--idle-timeout", "999ms"],
        &["serve", "--idle-timeout", "25h"],
        &["serve", "--cors-origin", "*"],
        &["serve", "--cors-origin", "https://app.example.com/,https://b.example.com"],
        &["keys", "create", "--name", "abc", "--environment", "prod", "--scopes", "x"],
    ] {
        let output = recado().args(args).ended();
        assert_fails(&output, 2, &["help"]);
    }
}

#[test]
fn the_version_is_printed_by_command_and_flag() {
    let version = env!("CARGO_PKG_VERSION");
    let printed = |args: &[&str]| {
        let output = recado().args(args).ended();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(printed(&["--version"]), format!("recado {version}\n"));
    let json: Value = serde_json::from_str(&printed(&["version", "--json"])).expect("JSON");
    assert_eq!((&json["version"], &json["whatsappWeb"]), (&version.into(), &cfg!(feature = "whatsapp-web").into()));
    let licence = json["license"].as_str().expect("a licence");
    // A binary with the protocol of WhatsApp Web has another licence.
    assert_eq!(licence.starts_with("AGPL-3.0-only"), cfg!(feature = "whatsapp-web"), "{licence}");
    assert!(licence.contains("MIT OR Apache-2.0"), "{licence}");
    let with = if cfg!(feature = "whatsapp-web") { "with" } else { "without" };
    assert_eq!(printed(&["version"]), format!("recado {version}, {with} WhatsApp Web\nlicence: {licence}\n"));
}

/// Concurrent commands wait for each other. None reports a missing server.
#[test]
fn commands_at_the_same_time_wait_for_each_other() {
    let home = Home::init();
    let scopes = ["--environment", "test", "--scopes", "messages.read"];
    let name = |number: usize| format!("parallel {number}");
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (home, name) = (&home, name(number));
            scope.spawn(move || home.cli(&[&["keys", "create", "--name", &name], &scopes[..]].concat()));
        }
    });
    let keys = home.cli(&["keys", "list"]);
    let names: Vec<_> = keys.as_array().expect("a list").iter().map(|key| text(key, "name")).collect();
    assert!((0..6).all(|number| names.contains(&&*name(number))), "{names:?}");
}

/// The remains of a killed server (its socket, its lock's file) disturb no command.
#[test]
fn commands_work_after_a_crash() {
    let Stage { server, home, .. } = Stage::set();
    server.kill();
    assert!(home.dir.join("recado.sock").exists(), "this test shows nothing");
    commands_work(&home);
    let server = home.serve();
    assert_eq!(mode(&home.dir.join("recado.sock")), 0o600);
    server.get("/v1/channels", Some(&home.test_key)).expect(200);
    home.cli(&["institutions", "list"]);
}
