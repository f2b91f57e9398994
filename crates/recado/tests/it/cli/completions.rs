//! `recado completions`, in a real bash.

use std::process::Command;

use crate::harness::run;

#[test]
fn bash_completes_commands_and_flags() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("recado.bash");
    std::fs::write(&file, run(&["completions", "bash"])).expect("a file");
    let complete = |words: &str| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _recado recado \"${{COMP_WORDS[COMP_CWORD]}}\"; echo \"${{COMPREPLY[@]}}\"; complete -p recado",
            file.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let commands = complete("recado me");
    assert!(commands.starts_with("messages\n") && commands.contains("-F _recado recado"), "{commands}");
    assert!(complete("recado send contact --cs").starts_with("--csv\n"));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(run(&["completions", shell]).contains("recado"), "{shell}");
    }
}
