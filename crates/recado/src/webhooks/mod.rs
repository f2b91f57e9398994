//! `recado webhooks`.

mod fields;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::api::{Api, Request, Target, encoded};
use crate::exit::Exit;
use crate::webhooks::fields::{Fields, Resets};
use crate::{Output, output};

/// The institution and environment of the webhooks, and the format of the output.
#[derive(Debug, Clone, Args)]
pub struct Where {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    output: Output,
}

/// Which deliveries are listed.
#[derive(Debug, Args)]
pub struct Deliveries {
    /// Only deliveries in this state: PENDING, DELIVERED or FAILED
    #[arg(long)]
    status: Option<String>,
    /// Only deliveries of this event
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only deliveries from this time on, in ISO 8601
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only deliveries up to this time, in ISO 8601
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Most deliveries
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

/// Which events are sent again.
#[derive(Debug, Args)]
pub struct Range {
    /// One delivery, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "to", "events", "status"])]
    delivery: Option<String>,
    /// Events from this time on, in ISO 8601
    #[arg(long, value_name = "TIME", required_unless_present = "delivery")]
    from: Option<String>,
    /// Events up to this time, in ISO 8601
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only these events: names and patterns (message.*), separated by commas
    #[arg(long, value_name = "EVENTS", value_delimiter = ',')]
    events: Option<Vec<String>>,
    /// FAILED: only dead letters; ALL: delivered events, too
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a webhook; its secret is shown only once
    Create {
        /// The URL of the receiver: https, at most 2,048 characters
        #[arg(long, value_name = "URL")]
        receiver: String,
        #[command(flatten)]
        fields: Fields,
        #[command(flatten)]
        place: Where,
    },
    /// List the webhooks
    List {
        #[command(flatten)]
        place: Where,
    },
    /// Show a webhook
    Get {
        /// The webhook's id
        id: String,
        #[command(flatten)]
        place: Where,
    },
    /// Change a webhook; omitted fields do not change
    Update {
        /// The webhook's id
        id: String,
        /// The URL of the receiver: https, at most 2,048 characters
        #[arg(long, value_name = "URL")]
        receiver: Option<String>,
        /// Replace the secret by a new one, which is shown only once; the former one also signs for 24 hours
        #[arg(long, conflicts_with = "secret_file")]
        new_secret: bool,
        #[command(flatten)]
        resets: Resets,
        #[command(flatten)]
        fields: Fields,
        #[command(flatten)]
        place: Where,
    },
    /// Delete a webhook; its pending deliveries are dropped
    Delete {
        /// The webhook's id
        id: String,
        #[command(flatten)]
        place: Where,
    },
    /// Send a test event at once, one time; the exit code is 1 if the receiver does not accept it
    Test {
        /// The webhook's id
        id: String,
        /// An example of this event in place of webhook.test
        #[arg(long, value_name = "NAME")]
        event: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// List the deliveries of a webhook, newest first, or show one with its attempts and its body
    Logs {
        /// The webhook's id
        id: String,
        /// Show this delivery
        #[arg(long, value_name = "ID", conflicts_with_all = ["status", "event", "from", "to"])]
        delivery: Option<String>,
        #[command(flatten)]
        deliveries: Deliveries,
        #[command(flatten)]
        place: Where,
    },
    /// Send events again: one delivery, or those of a time
    Replay {
        /// The webhook's id
        id: String,
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        place: Where,
    },
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        let (Self::Create { place, .. }
        | Self::List { place }
        | Self::Get { place, .. }
        | Self::Update { place, .. }
        | Self::Delete { place, .. }
        | Self::Test { place, .. }
        | Self::Logs { place, .. }
        | Self::Replay { place, .. }) = &self;
        let api = Api::open(&place.target, None).await?;
        let done = self.carry_out(&api).await;
        api.close().await;
        done
    }

    async fn carry_out(&self, api: &Api) -> Result<Exit> {
        match self {
            Self::Create { receiver, fields, place } => {
                let body = fields.new_webhook(receiver)?;
                let answer = api.ask(write("POST", "/v1/webhooks".to_owned(), &body)).await?;
                output::show(&place.output, &answer["data"])?;
            }
            Self::List { place } => list(api, &place.output).await?,
            Self::Get { id, place } => {
                output::show(&place.output, &api.ask(Request::get(path(id, ""))).await?["data"])?;
            }
            Self::Update { id, receiver, new_secret, resets, fields, place } => {
                let body = fields.change(receiver.as_deref(), *new_secret, resets)?;
                let mut answer = api.ask(write("PUT", path(id, ""), &body)).await?;
                if *new_secret {
                    answer["data"]["secret"] = body["secret"].clone();
                }
                output::show(&place.output, &answer["data"])?;
            }
            Self::Delete { id, place } => {
                output::show(&place.output, &api.ask(Request::delete(path(id, ""))).await?)?;
            }
            Self::Test { id, event, place } => return test(api, id, event.as_deref(), &place.output).await,
            Self::Logs { id, delivery: Some(delivery), place, .. } => {
                let asked = Request::get(path(id, &format!("/logs/{}", encoded(delivery))));
                output::show(&place.output, &api.ask(asked).await?["data"])?;
            }
            Self::Logs { id, deliveries, place, .. } => logs(api, id, deliveries, &place.output).await?,
            Self::Replay { id, range, place } => replay(api, id, range, &place.output).await?,
        }
        Ok(Exit::Done)
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/webhooks/{}{rest}", encoded(id))
}

/// A call with a body.
fn write(method: &'static str, path: String, body: &Value) -> Request {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Request { method, path, headers, body: body.to_string() }
}

async fn list(api: &Api, output: &Output) -> Result<()> {
    let rows = api.list("/v1/webhooks", &[], usize::MAX).await?;
    let row = |webhook: &Value| {
        json!({
            "id": webhook["id"], "name": webhook["name"], "url": webhook["url"], "events": webhook["events"],
            "active": webhook["active"], "failingSince": webhook["failingSince"],
        })
    };
    let rows = if output.json { rows } else { rows.iter().map(row).collect() };
    output::show(output, &rows.into())
}

async fn test(api: &Api, id: &str, event: Option<&str>, output: &Output) -> Result<Exit> {
    let body = event.map_or_else(|| json!({}), |event| json!({ "event": event }));
    let answer = api.ask(write("POST", path(id, "/test"), &body)).await?;
    output::show(output, &answer["data"])?;
    Ok(if answer["data"]["status"] == "DELIVERED" { Exit::Done } else { Exit::Failed })
}

async fn logs(api: &Api, id: &str, deliveries: &Deliveries, output: &Output) -> Result<()> {
    let Deliveries { status, event, from, to, limit } = deliveries;
    let status = status.as_ref().map(|status| status.to_uppercase());
    let filters = [("status", &status), ("event", event), ("from", from), ("to", to)];
    let filters = filters.map(|(name, value)| (name, value.as_deref()));
    let rows = api.list(&path(id, "/logs"), &filters, *limit).await?;
    let row = |delivery: &Value| {
        let at = [&delivery["deliveredAt"], &delivery["failedAt"], &delivery["nextAttemptAt"]];
        let at = at.into_iter().find(|at| !at.is_null()).unwrap_or(&Value::Null);
        json!({
            "id": delivery["id"], "event": delivery["event"], "status": delivery["status"], "attempt": delivery["attempt"],
            "statusCode": delivery["statusCode"], "responseTime": delivery["responseTime"], "error": delivery["error"],
            "at": at,
        })
    };
    let rows = if output.json { rows } else { rows.iter().map(row).collect() };
    output::show(output, &rows.into())
}

async fn replay(api: &Api, id: &str, range: &Range, output: &Output) -> Result<()> {
    let Range { delivery, from, to, events, status } = range;
    let (path, body) = if let Some(delivery) = delivery {
        (path(id, &format!("/logs/{}/replay", encoded(delivery))), json!({}))
    } else {
        let status = status.as_ref().map(|status| status.to_uppercase());
        let given = [("from", json!(from)), ("to", json!(to)), ("events", json!(events)), ("status", json!(status))];
        (path(id, "/replay"), given.into_iter().filter(|(_, value)| !value.is_null()).collect())
    };
    let mut answer = api.ask(write("POST", path, &body)).await?;
    let data = answer["data"].take();
    output::show(output, if data.is_object() { &data } else { &answer })
}
