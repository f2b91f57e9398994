//! `recado listen`: forwards the event stream to a URL on this machine.

mod forward;

use anyhow::Result;
use clap::Args;
use recado_gateway::shutdown::Signals;
use recado_gateway::signature;
use recado_providers::outbound::url::TargetUrl;
use recado_store::clock::SystemEntropy;

use crate::Output;
use crate::api::{Api, Target};
use crate::events::{Filter, Follower, Start};
use crate::exit::{Exit, Failure};
use crate::listen::forward::Forwarder;
use crate::messages::check_served;
use crate::output::note;

/// Events that are read at a time. At most this many events are posted again after a restart.
const PAGE: usize = 20;

#[derive(Debug, Args)]
pub struct Listen {
    /// The receiver, such as `http://localhost:3000/webhooks`
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    forward_to: TargetUrl,
    /// The secret that signs the requests; a new one is made and printed if omitted
    #[arg(long, value_name = "SECRET", env = "RECADO_LISTEN_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// How often an event is posted at most, at growing intervals (1, 2, 4 … 30 seconds)
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=20))]
    attempts: u8,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    start: Start,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    output: Output,
}

impl Listen {
    pub async fn run(self) -> Result<Exit> {
        // Clap does not check the secret, because its error messages show a refused value.
        if self.secret.as_deref().is_some_and(|secret| !signature::secret_is_valid(secret)) {
            let text = "a secret has 16 to 256 printable characters, and padded base64 behind whsec_".to_owned();
            return Err(Failure { exit: Exit::Usage, text }.into());
        }
        let api = Api::open(&self.target, self.filter.channel.as_deref()).await?;
        let done = self.listen(&api).await;
        api.close().await;
        done
    }

    async fn listen(&self, api: &Api) -> Result<Exit> {
        let mut signals = Signals::listen()?;
        check_served(api)?;
        // As a webhook without this field.
        let filter = self.filter.clone().or_chats("DIRECT");
        let mut follower = Follower::new(api, &filter, &self.start, PAGE)?;
        let secret = self.secret.clone().unwrap_or_else(|| signature::new_secret(&SystemEntropy));
        let forwarder = Forwarder::new(self.forward_to.clone(), &secret, self.attempts, &self.output);
        if forwarder.leaves_this_machine_in_clear() {
            note(&format!("recado: warning: events go to {} in clear; use https", self.forward_to.host_text()));
        }
        let (mut begun, mut given_up) = (false, 0_u64);
        let ended = loop {
            let round = async {
                let page = follower.next().await?;
                if !std::mem::replace(&mut begun, true) {
                    // A given secret is not shown.
                    let shown = if self.secret.is_some() { "the given one" } else { &secret };
                    note(&format!("recado: events are forwarded to {}\nrecado: secret: {shown}", self.forward_to));
                }
                for event in &page.events {
                    given_up += u64::from(!forwarder.forward(event).await?);
                }
                follower.advance(page).await
            };
            tokio::select! {
                () = signals.next() => break Ok(Exit::Interrupted),
                done = round => if let Err(error) = done { break Err(error) },
            }
        };
        if given_up > 0 {
            note(&format!("recado: {given_up} events were given up: the receiver refused each attempt"));
        }
        follower.end(ended)
    }
}

fn parse_url(text: &str) -> Result<TargetUrl, String> {
    TargetUrl::parse(text).map_err(|_| "a URL such as http://localhost:3000/webhooks".to_owned())
}
