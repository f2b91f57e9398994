//! Sends one message: looks up the accounts, submits the message, awaits the network's answer.
//!
//! `accounts` finds the account of the recipient and of the numbers on cards: first in the table of that name, then on the
//! network. `message` builds the body. The message is submitted under its network id. If the account has no device, or the
//! network does not know it (404), the number is looked up again, and the message is submitted to the account found then. A
//! stanza without a device of the recipient does not count as sent. The answer is awaited for 30 seconds, and only while the
//! connection is open.
//!
//! | Answer | Outcome |
//! |---|---|
//! | acknowledged | `Accepted`; where the network names missed devices, the message is submitted once more to those |
//! | a code | by the table in `refusal`: no new chats (463), the channel waits, or the message fails |
//! | the connection breaks | `ConnectionLost`: queued again at once, under the same id, without a failure |
//! | none | `UnknownOutcome`: retried with the usual backoff under the same id; after the last attempt `UNKNOWN` |

use std::time::Duration;

use recado_domain::address::{GROUP, LID};
use recado_domain::channel::types::whatsapp_web::Settings;
use recado_domain::clock::{millis, random};
use recado_domain::message::{ContactRendition, Stored};
use recado_domain::pacing::Pacing;
use recado_domain::party::{Party, Recipient};
use recado_domain::queue::Claimed;
use recado_store::clock::rfc3339;
use recado_whatsapp_web::{Addressee, Outgoing, Session, SubmitError};
use tokio::time::{Instant, timeout};

use crate::SendOutcome;
use crate::pairing::ConnectionError;
use crate::whatsapp_web::answers::{Answer, Awaited};
use crate::whatsapp_web::connection::{Connection, RETRY_WHEN_DOWN};
use crate::whatsapp_web::message;
use crate::whatsapp_web::refusal::{self, Refusal};

/// The time limit for all preparations before a message is submitted.
const PREPARE: Duration = Duration::from_secs(8);
/// The time limit for the network's answer, while the connection is open.
const ANSWER: Duration = Duration::from_secs(30);
/// The time limit for sending an accepted message to devices that it did not reach.
const MISSED: Duration = Duration::from_secs(20);
/// The time limit for asking when new chats are permitted again.
const ASK: Duration = Duration::from_secs(3);
/// How long the recipient sees us typing.
const TYPING: Pacing = Pacing { min: Duration::from_millis(800), max: Duration::from_millis(2_500) };

/// The result of the preparations of a message.
struct Prepared {
    /// The account of the recipient's number. `None`: the message goes to a hidden id, without a number.
    account: Option<String>,
    /// The party whose receipts count.
    recipient: Recipient,
    outgoing: Outgoing,
    /// What is sent, if it differs from the rendition of the accepted message.
    rendition: Option<String>,
}

/// The result of one try.
enum Tried {
    Ended(SendOutcome),
    /// The network accepted the message, and knows devices that have no copy.
    Missed(SendOutcome),
    /// The account may not exist any more. The outcome applies if it does not.
    Doubted(Party, SendOutcome),
}

impl Connection {
    /// Sends a message. If the network's answer contradicts the stored account or devices, they are fetched again.
    pub async fn send(&self, message: &Claimed) -> SendOutcome {
        let _in_flight = self.in_flight.read().await;
        match self.try_once(message, message.failures > 0).await {
            Tried::Ended(outcome) => outcome,
            Tried::Missed(accepted) => {
                if !self.answers.is_missed(&message.recipient, self.shared.clock.now()) {
                    // The same id is submitted again; a device that has the message shows it once. The second result does
                    // not change the first outcome.
                    let again = timeout(MISSED, self.try_once(message, true)).await;
                    if matches!(again, Ok(Tried::Missed(_))) {
                        self.answers.note_missed(&message.recipient, self.shared.clock.now());
                    }
                }
                accepted
            }
            Tried::Doubted(account, outcome) => {
                let number = account.number().map(str::to_owned);
                match self.ask_again(&message.recipient, Some(account)).await {
                    Ok(known) if known.account == number => outcome,
                    Ok(_) => match self.try_once(message, true).await {
                        Tried::Ended(outcome) | Tried::Missed(outcome) | Tried::Doubted(_, outcome) => outcome,
                    },
                    Err(error) => self.lookup_failed(error),
                }
            }
        }
    }

    /// Submits a message, and waits for the answer. With `refresh`, the recipient's devices are fetched first.
    async fn try_once(&self, message: &Claimed, refresh: bool) -> Tried {
        let prepared = match timeout(PREPARE, self.prepare(message, refresh)).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(outcome)) => return Tried::Ended(outcome),
            // The network was slow to name the account.
            Err(_) => return Tried::Ended(SendOutcome::NotSent),
        };
        let Some(session) = self.session() else {
            return Tried::Ended(SendOutcome::ChannelUnavailable { wait: RETRY_WHEN_DOWN });
        };
        // A hidden id leads to no number that could be looked up again.
        let known =
            prepared.account.clone().and_then(|number| Party::new(Some(number), prepared.recipient.lid.clone()));
        let doubted = |outcome: SendOutcome| match known {
            Some(account) => Tried::Doubted(account, outcome),
            None => Tried::Ended(outcome),
        };
        let is_group = matches!(prepared.outgoing.to, Addressee::Group(_));
        let awaited = self.answers.expect(&message.network_id, prepared.recipient);
        let mut submitted = match session.submit(&prepared.outgoing).await {
            Ok(submitted) => submitted,
            Err(SubmitError::NoDevice) => {
                self.answers.note_no_device(&message.network_id);
                return doubted(unreachable("O destinatario nao tem nenhum aparelho que possa receber a mensagem."));
            }
            Err(error) => return Tried::Ended(self.not_submitted(message, &error)),
        };
        self.answers.note_device(&message.network_id);
        match self.answer(awaited).await {
            Ok(Answer::Accepted) => {
                let accepted =
                    SendOutcome::Accepted { account: prepared.account, remote_id: None, rendition: prepared.rendition };
                if submitted.missed_devices() { Tried::Missed(accepted) } else { Tried::Ended(accepted) }
            }
            Ok(Answer::Refused { code }) => match refusal::of(&code, is_group) {
                Refusal::NoRecipient => {
                    doubted(unreachable(&format!("O WhatsApp nao encontrou o destinatario (erro {code}).")))
                }
                refusal => Tried::Ended(self.refused(&session, refusal, &code).await),
            },
            Err(outcome) => Tried::Ended(outcome),
        }
    }

    /// The outcome of a message that was not submitted, or may not have been.
    fn not_submitted(&self, message: &Claimed, error: &SubmitError) -> SendOutcome {
        // The library's text is omitted, because it may contain a number.
        match error {
            SubmitError::Down => SendOutcome::ConnectionLost,
            SubmitError::NotSent(_) => {
                tracing::warn!(channel.id = %self.via.id, message.id = %message.id, "message not sent: recipient devices or keys unknown");
                if self.is_up() {
                    SendOutcome::NotSent
                } else {
                    SendOutcome::ChannelUnavailable { wait: RETRY_WHEN_DOWN }
                }
            }
            SubmitError::NoGroup(code) => {
                tracing::warn!(channel.id = %self.via.id, message.id = %message.id, code, "group refused by network");
                SendOutcome::PermanentFailure {
                    code: "RECIPIENT_UNREACHABLE",
                    message: format!("O WhatsApp nao conhece o grupo, ou o canal nao participa dele (erro {code})."),
                }
            }
            SubmitError::NoDevice | SubmitError::Other(_) => {
                tracing::warn!(channel.id = %self.via.id, message.id = %message.id, "message outcome unknown; resending");
                SendOutcome::UnknownOutcome
            }
        }
    }

    /// Finds the accounts and the quoted message, adds the accounts of numbers to their cards, and shows the recipient that
    /// we are typing.
    async fn prepare(&self, message: &Claimed, refresh: bool) -> Result<Prepared, SendOutcome> {
        self.until_up().await;
        let stored = serde_json::from_str::<Stored>(&message.payload).map_err(|_| unreadable())?;
        let Stored { content, reply_to, .. } = stored;
        let quote = self.quote(message, reply_to).await?;
        let (to, account, recipient) = self.addressee(&message.recipient).await?;
        let accepted = message.rendition.as_deref().and_then(ContactRendition::from_json);
        let changed = self.find_accounts(&content, accepted.as_ref()).await?;
        let body = message::body(&content, changed.as_ref().or(accepted.as_ref())).ok_or_else(unreadable)?;
        if self.settings().await?.typing {
            self.type_a_while(&to).await;
        }
        let outgoing = Outgoing { id: message.network_id.clone(), to, body, quote, refresh };
        let rendition = changed.as_ref().map(ContactRendition::to_json);
        Ok(Prepared { account, recipient, outgoing, rendition })
    }

    /// To whom a message with this recipient is sent, the account of the number, and whose receipts count.
    async fn addressee(&self, recipient: &str) -> Result<(Addressee, Option<String>, Recipient), SendOutcome> {
        if let Some(lid) = recipient.strip_suffix(LID) {
            return Ok((Addressee::Lid(lid.to_owned()), None, Recipient::new(vec![recipient.to_owned()], None)));
        }
        if let Some(group) = recipient.strip_suffix(GROUP) {
            // Its conversation is named soon.
            drop(self.groups.look(recipient, Instant::now()));
            return Ok((Addressee::Group(group.to_owned()), None, Recipient::new(vec![recipient.to_owned()], None)));
        }
        let known = self.look_up(recipient).await.map_err(|error| self.lookup_failed(error))?;
        let Some(account) = known.account else {
            return Err(not_on_whatsapp());
        };
        let names = Recipient::new(vec![recipient.to_owned(), account.clone()], known.lid);
        Ok((Addressee::Number(account.clone()), Some(account), names))
    }

    async fn settings(&self) -> Result<Settings, SendOutcome> {
        let channel =
            self.shared.store.channel(self.via.key).await.map_err(|error| self.lookup_failed(error.into()))?;
        Ok(channel.map(|channel| channel.settings.into()).unwrap_or_default())
    }

    async fn type_a_while(&self, to: &Addressee) {
        let Some(session) = self.session() else { return };
        let random = u64::from_le_bytes(random(&*self.shared.entropy));
        // A failure to show it does no harm.
        drop(session.type_for(to, TYPING.interval(random)).await);
    }

    /// Waits for the network's answer, as long as the connection is open.
    async fn answer(&self, mut answer: Awaited<'_>) -> Result<Answer, SendOutcome> {
        tokio::select! {
            // An answer that has arrived counts even if the connection has closed since.
            biased;
            answer = &mut answer.receiver => answer.map_err(|_| SendOutcome::ConnectionLost),
            () = self.until_down() => Err(SendOutcome::ConnectionLost),
            () = tokio::time::sleep(ANSWER) => Err(SendOutcome::UnknownOutcome),
        }
    }

    async fn refused(&self, session: &Session, refusal: Refusal, code: &str) -> SendOutcome {
        tracing::warn!(channel.id = %self.via.id, code, "message refused by network");
        let now = self.shared.clock.now();
        match refusal {
            Refusal::NoNewChats => {
                let stated = timeout(ASK, session.restriction())
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .flatten()
                    .map(|seconds| seconds.saturating_mul(1_000));
                let until = stated.filter(|until| *until > now).unwrap_or(now + millis(refusal::NO_NEW_CHATS));
                let reason = format!(
                    "O WhatsApp nao deixa esta conta abrir conversas novas (erro {code}). Nova tentativa em {}.",
                    rfc3339(until)
                );
                self.restricted(until);
                SendOutcome::NewChatBlocked { until, reason }
            }
            Refusal::TooMuch => {
                let until = now + millis(refusal::TOO_MUCH);
                let reason =
                    format!("O WhatsApp limita esta conta (erro {code}). Nova tentativa em {}.", rfc3339(until));
                // Hold the channel first, so that nothing is sent if the process ends in between.
                if let Err(error) = self.shared.store.defer_channel(self.via.key, until).await {
                    return self.lookup_failed(error.into());
                }
                self.restrict(until, reason).await;
                SendOutcome::ChannelUnavailable { wait: refusal::TOO_MUCH }
            }
            Refusal::Trouble => SendOutcome::ChannelThrottled,
            Refusal::NoRecipient | Refusal::Message => SendOutcome::PermanentFailure {
                code: "WHATSAPP_REFUSED",
                message: format!("O WhatsApp recusou a mensagem (erro {code})."),
            },
        }
    }

    /// The outcome of a message that needed a failed lookup: the message waits, and nothing was sent.
    pub(super) fn lookup_failed(&self, error: ConnectionError) -> SendOutcome {
        match error {
            ConnectionError::Down | ConnectionError::Gone => SendOutcome::ChannelUnavailable { wait: RETRY_WHEN_DOWN },
            ConnectionError::TooMany(seconds) => SendOutcome::ChannelUnavailable { wait: Duration::from_secs(seconds) },
            ConnectionError::NoAnswer => {
                tracing::warn!(channel.id = %self.via.id, "number lookup failed; retrying");
                SendOutcome::NotSent
            }
            ConnectionError::Store(error) => {
                tracing::warn!(channel.id = %self.via.id, %error, "store unavailable; channel waits");
                SendOutcome::ChannelUnavailable { wait: RETRY_WHEN_DOWN }
            }
        }
    }
}

fn unreachable(why: &str) -> SendOutcome {
    SendOutcome::TemporaryFailure { code: "RECIPIENT_UNREACHABLE", message: why.to_owned() }
}

fn not_on_whatsapp() -> SendOutcome {
    SendOutcome::PermanentFailure {
        code: crate::NOT_ON_WHATSAPP,
        message: "O numero do destinatario nao esta no WhatsApp.".to_owned(),
    }
}

/// A newer version stored the message in another form.
pub(super) fn unreadable() -> SendOutcome {
    SendOutcome::PermanentFailure {
        code: crate::UNREADABLE,
        message: "O conteudo guardado da mensagem nao pode ser lido por esta versao.".to_owned(),
    }
}
