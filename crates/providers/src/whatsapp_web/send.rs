//! One message: the accounts looked up, handed over, the network's answer awaited.
//!
//! `accounts` finds the account of the recipient and of the numbers on cards: in the table of that name first, then on the
//! network. `message` makes the body. The message is submitted under its network id. Where the account has no device, or the network does not know it
//! (404), the number is asked for again, and the message is submitted to the account that is named then. A stanza without a
//! device of the recipient's was not sent. The answer is awaited for 30 seconds, and only while the line is up.
//!
//! | Answer | Outcome |
//! |---|---|
//! | acknowledged | `Accepted`; where the network names missed devices, the message is submitted once more to those |
//! | a code | by the table in `refusal`: no new chats (463), the channel waits, or the message fails |
//! | the line breaks | `ConnectionLost`: queued again at once, under the same id, without a failure |
//! | none | `UnknownOutcome`: tried again by the usual backoff under the same id; after the last attempt `UNKNOWN` |

use std::time::Duration;

use recado_domain::channel::types::whatsapp_web::Settings;
use recado_domain::clock::{millis, random};
use recado_domain::message::{ContactRendition, Stored};
use recado_domain::pacing::Pacing;
use recado_domain::party::{Party, Recipient};
use recado_domain::queue::Claimed;
use recado_store::clock::rfc3339;
use recado_whatsapp_web::{Outgoing, Session, SubmitError};
use tokio::time::timeout;

use crate::SendOutcome;
use crate::pairing::LineError;
use crate::whatsapp_web::answers::{Answer, Awaited};
use crate::whatsapp_web::line::{DOWN, Line};
use crate::whatsapp_web::message;
use crate::whatsapp_web::refusal::{self, Refusal};

/// The longest for all that comes before a message is handed over.
const PREPARE: Duration = Duration::from_secs(8);
/// The longest wait for the network's answer, while the line is up.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest for sending a message, that the network has taken, to devices that it did not reach.
const MISSED: Duration = Duration::from_secs(20);
/// The longest for asking until when new chats are refused.
const ASK: Duration = Duration::from_secs(3);
/// How long somebody types.
const TYPING: Pacing = Pacing { min: Duration::from_millis(800), max: Duration::from_millis(2_500) };

/// What is known before a message is handed over.
struct Prepared {
    account: String,
    /// Whose receipts count.
    recipient: Recipient,
    outgoing: Outgoing,
    /// What is sent, where it is not what was rendered when the message was accepted.
    rendition: Option<String>,
}

/// What came of handing a message over once.
enum Tried {
    Ended(SendOutcome),
    /// The network took it, and knows devices that have no copy.
    Missed(SendOutcome),
    /// There seems to be nobody behind this account; the outcome where that is so.
    Doubted(Party, SendOutcome),
}

impl Line {
    /// Sends a message. What is known of its recipient yields to what the network's answer says against it.
    pub async fn send(&self, message: &Claimed) -> SendOutcome {
        let _in_hand = self.in_hand.read().await;
        match self.try_once(message, message.failures > 0).await {
            Tried::Ended(outcome) => outcome,
            Tried::Missed(taken) => {
                if !self.answers.misses(&message.recipient, self.shared.clock.now()) {
                    // The same id again: whoever has it shows it once. What comes of it takes nothing from the first answer.
                    let again = timeout(MISSED, self.try_once(message, true)).await;
                    if matches!(again, Ok(Tried::Missed(_))) {
                        self.answers.note_missed(&message.recipient, self.shared.clock.now());
                    }
                }
                taken
            }
            Tried::Doubted(account, outcome) => {
                let number = account.number().map(str::to_owned);
                match self.ask_again(&message.recipient, Some(account)).await {
                    Ok(known) if known.account == number => outcome,
                    Ok(_) => match self.try_once(message, true).await {
                        Tried::Ended(outcome) | Tried::Missed(outcome) | Tried::Doubted(_, outcome) => outcome,
                    },
                    Err(error) => self.trouble(error),
                }
            }
        }
    }

    /// Hands a message over, and waits for the answer. `refresh`: its recipient's devices are asked for anew.
    async fn try_once(&self, message: &Claimed, refresh: bool) -> Tried {
        let prepared = match timeout(PREPARE, self.prepare(message, refresh)).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(outcome)) => return Tried::Ended(outcome),
            // The network is slow to say which account it is.
            Err(_) => return Tried::Ended(SendOutcome::NotSent),
        };
        let Some(session) = self.session() else { return Tried::Ended(SendOutcome::ChannelUnavailable { wait: DOWN }) };
        let account = Party::new(Some(prepared.account.clone()), prepared.recipient.lid.clone());
        let doubted = |outcome: SendOutcome| match account {
            Some(account) => Tried::Doubted(account, outcome),
            None => Tried::Ended(outcome),
        };
        let awaited = self.answers.expect(&message.network_id, prepared.recipient);
        let mut submitted = match session.submit(&prepared.outgoing).await {
            Ok(submitted) => submitted,
            Err(SubmitError::NoDevice) => {
                self.answers.reaches_nobody(&message.network_id);
                return doubted(unreachable("O destinatario nao tem nenhum aparelho que possa receber a mensagem."));
            }
            Err(error) => return Tried::Ended(self.not_submitted(message, &error)),
        };
        self.answers.reaches_somebody(&message.network_id);
        match self.answer(awaited).await {
            Ok(Answer::Taken) => {
                let account = Some(prepared.account);
                let taken = SendOutcome::Accepted { account, remote_id: None, rendition: prepared.rendition };
                if submitted.missed_devices() { Tried::Missed(taken) } else { Tried::Ended(taken) }
            }
            Ok(Answer::Refused { code }) => match refusal::of(&code) {
                Refusal::NoRecipient => {
                    doubted(unreachable(&format!("O WhatsApp nao encontrou o destinatario (erro {code}).")))
                }
                refusal => Tried::Ended(self.refused(&session, refusal, &code).await),
            },
            Err(outcome) => Tried::Ended(outcome),
        }
    }

    /// What it means that a message was not handed over, or that nobody knows.
    fn not_submitted(&self, message: &Claimed, error: &SubmitError) -> SendOutcome {
        // Without the library's words, in which a number may stand.
        match error {
            SubmitError::Down => SendOutcome::ConnectionLost,
            SubmitError::NotSent(_) => {
                tracing::warn!(channel.id = %self.via.id, message.id = %message.id, "message not sent: recipient devices or keys unknown");
                if self.is_up() { SendOutcome::NotSent } else { SendOutcome::ChannelUnavailable { wait: DOWN } }
            }
            SubmitError::NoDevice | SubmitError::Other(_) => {
                tracing::warn!(channel.id = %self.via.id, message.id = %message.id, "message outcome unknown; resending");
                SendOutcome::UnknownOutcome
            }
        }
    }

    /// Finds the accounts and the quoted message, writes the accounts of numbers into their cards, and shows that something is
    /// typed.
    async fn prepare(&self, message: &Claimed, refresh: bool) -> Result<Prepared, SendOutcome> {
        self.until_up().await;
        let stored = serde_json::from_str::<Stored>(&message.payload).map_err(|_| unreadable())?;
        let Stored { content, reply_to, .. } = stored;
        let quote = self.quote(reply_to).await?;
        let known = self.look_up(&message.recipient).await.map_err(|error| self.trouble(error))?;
        let Some(account) = known.account else {
            return Err(not_on_whatsapp());
        };
        let recipient = Recipient { numbers: vec![message.recipient.clone(), account.clone()], lid: known.lid };
        let accepted = message.rendition.as_deref().and_then(ContactRendition::from_json);
        let changed = self.find_accounts(&content, accepted.as_ref()).await?;
        let body = message::body(&content, changed.as_ref().or(accepted.as_ref())).ok_or_else(unreadable)?;
        if self.settings().await?.typing {
            self.type_a_while(&account).await;
        }
        let outgoing = Outgoing { id: message.network_id.clone(), account: account.clone(), body, quote, refresh };
        let rendition = changed.as_ref().map(ContactRendition::to_json);
        Ok(Prepared { account, recipient, outgoing, rendition })
    }

    async fn settings(&self) -> Result<Settings, SendOutcome> {
        let channel = self.shared.store.channel(self.via.key).await.map_err(|error| self.trouble(error.into()))?;
        Ok(channel.map(|channel| channel.settings.into()).unwrap_or_default())
    }

    async fn type_a_while(&self, account: &str) {
        let Some(session) = self.session() else { return };
        let random = u64::from_le_bytes(random(&*self.shared.entropy));
        // That nobody saw it harms nothing.
        drop(session.type_for(account, TYPING.rest(random)).await);
    }

    /// Waits for the network's answer, as long as the line is up.
    async fn answer(&self, mut answer: Awaited<'_>) -> Result<Answer, SendOutcome> {
        tokio::select! {
            // What has come is taken before the line's end is looked at.
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
                let told = timeout(ASK, session.restriction())
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .flatten()
                    .map(|seconds| seconds.saturating_mul(1_000));
                let until = told.filter(|until| *until > now).unwrap_or(now + millis(refusal::NO_NEW_CHATS));
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
                // First, so that nothing goes where the process ends in between.
                if let Err(error) = self.shared.store.defer_channel(self.via.key, until).await {
                    return self.trouble(error.into());
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

    /// What a question without an answer means for the message that needed it: it waits, and nothing was sent.
    pub(super) fn trouble(&self, error: LineError) -> SendOutcome {
        match error {
            LineError::Down | LineError::Gone => SendOutcome::ChannelUnavailable { wait: DOWN },
            LineError::TooMany(seconds) => SendOutcome::ChannelUnavailable { wait: Duration::from_secs(seconds) },
            LineError::NoAnswer => {
                tracing::warn!(channel.id = %self.via.id, "number lookup failed; retrying");
                SendOutcome::NotSent
            }
            LineError::Store(error) => {
                tracing::warn!(channel.id = %self.via.id, %error, "store unavailable; channel waits");
                SendOutcome::ChannelUnavailable { wait: DOWN }
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

/// A newer version stored it in another form.
pub(super) fn unreadable() -> SendOutcome {
    SendOutcome::PermanentFailure {
        code: crate::UNREADABLE,
        message: "O conteudo guardado da mensagem nao pode ser lido por esta versao.".to_owned(),
    }
}
