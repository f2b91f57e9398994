//! `recado channels connect` for a channel that a phone links: draws the code, replaces it by each new one, and ends when
//! the phone has linked the channel.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use recado_gateway::control::{Command as Control, Credentials, WhichChannel};
use recado_gateway::shutdown::Signals;
use serde_json::Value;

use crate::exit::{Exit, Failure, unavailable};
use crate::local::Local;
use crate::{Common, output};

/// The interval of polls.
const PAUSE: Duration = Duration::from_millis(300);
/// The most polls of a linked channel until it is connected: half a minute.
const MAX_POLLS: u32 = 100;

/// Connects the channel and watches its linking. For programs it prints the answer of the API, and does not wait.
pub async fn connect(common: &Common, which: WhichChannel, given: Credentials) -> Result<()> {
    let local = Local::open(&common.data_dir.data_dir).await?;
    if !matches!(local, Local::Server(_)) {
        local.close().await;
        return Err(unavailable(
            "no server runs on this data directory, and only a server holds a session: start `recado serve`",
        ));
    }
    let command = Control::ConnectChannel { which: which.clone(), given };
    let mut answer = local.execute(command).await?;
    let pairing = answer["pairing"].take();
    if common.output.json || pairing.is_null() {
        answer["pairing"] = pairing;
        return output::show(&common.output, &answer);
    }
    let mut signals = Signals::listen()?;
    tokio::select! {
        () = signals.next() => return Err(interrupted()),
        linked = follow(&local, &which, pairing) => linked?,
    }
    output::show(&common.output, &connected(&local, &which).await?)
}

/// The linking continues in the server until its codes expire.
fn interrupted() -> anyhow::Error {
    Failure { exit: Exit::Interrupted, text: "interrupted: the channel is not linked yet".to_owned() }.into()
}

async fn follow(local: &Local, which: &WhichChannel, mut pairing: Value) -> Result<()> {
    let mut screen = Screen::default();
    loop {
        screen.show(&pairing)?;
        match pairing["status"].as_str() {
            Some("LINKED") => return Ok(()),
            Some("QR_CODE" | "PHONE_CODE" | "WAITING") => {}
            _ => bail!("{}", pairing["reason"].as_str().unwrap_or("the channel was not linked")),
        }
        tokio::time::sleep(PAUSE).await;
        pairing = local.execute(Control::ShowPairing { which: which.clone() }).await?;
    }
}

/// The channel once it is connected, or its current state if that takes long.
async fn connected(local: &Local, which: &WhichChannel) -> Result<Value> {
    let mut polls = 0;
    loop {
        let channel = local.execute(Control::ShowChannel { which: which.clone() }).await?;
        polls += 1;
        if channel["state"] != "CONNECTING" || polls == MAX_POLLS {
            return Ok(channel);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The code on the terminal.
#[derive(Default)]
struct Screen {
    code: Option<String>,
    lines: usize,
}

impl Screen {
    /// Draws a code in the place of the previous one.
    fn show(&mut self, pairing: &Value) -> Result<()> {
        let code = pairing["code"].as_str().map(str::to_owned);
        if code == self.code {
            return Ok(());
        }
        let terminal = std::io::stdout().is_terminal();
        let text = match &code {
            Some(code) => drawn(code, pairing["status"] == "PHONE_CODE", terminal)?,
            None => String::new(),
        };
        let mut out = std::io::stdout().lock();
        if terminal && self.lines > 0 {
            // Moves up to the beginning of the previous code, and clears the rest.
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        (self.code, self.lines) = (code, text.matches('\n').count());
        Ok(())
    }
}

fn drawn(code: &str, typed: bool, terminal: bool) -> Result<String> {
    if typed {
        return Ok(format!(
            "On the phone: WhatsApp, Linked devices, Link a device, Link with phone number instead. Type:\n\n    {}\n\n",
            output::tame(code)
        ));
    }
    let image = QrCode::new(code)?.render::<Dense1x2>().build();
    // Dark on light whatever the terminal's colours are, because some phones do not read the inverse.
    let (begin, end) = if terminal { ("\x1b[30;107m", "\x1b[0m") } else { ("", "") };
    let lines: Vec<_> = image.lines().map(|line| format!("{begin}{line}{end}")).collect();
    Ok(format!("On the phone: WhatsApp, Linked devices, Link a device. Scan:\n\n{}\n\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use crate::pairing::*;

    #[test]
    fn a_code_is_drawn_in_lines_of_one_length() {
        let text = drawn("2@p2Vy9V,aGVsbG8=,d29ybGQ=,YWR2", false, false).unwrap();
        let lines: Vec<_> = text.lines().skip(2).filter(|line| !line.is_empty()).collect();
        assert!(
            lines.len() > 15 && lines.iter().all(|line| line.chars().count() == lines[0].chars().count()),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "no colours in a file");
        assert!(drawn("ABCD-EFGH", true, true).unwrap().contains("ABCD-EFGH"));
    }
}
