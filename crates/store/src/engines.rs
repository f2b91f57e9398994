//! The ports that `common` implements once for both engines.

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEvent, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings,
    ChannelState, Held, Link, LoginLimits, NewChannel,
};
use recado_domain::clock::Millis;
use recado_domain::contact_book::{
    Contact, ContactChange, ContactChanged, ContactPage, ContactPut, ContactQuery, NewContact,
};
use recado_domain::conversation::{
    Change, Changed, Conversation, ConversationMessages, ConversationPage, ConversationQuery, InboxPage, MarkedRead,
    ReadClaim, ReadClaims, ReadSignal,
};
use recado_domain::event::{
    Event, EventPage, EventSeq, EventState, EventSubject, NewEvent, Owner, Patterns, Recording,
};
use recado_domain::ids::{ApiKeyId, ContactId, ConversationId, InstitutionId, MediaId, MessageId, WebhookId};
use recado_domain::incoming::{
    Arrivals, ContentsDeleted, Incoming, IncomingPage, IncomingQuery, Media, MediaState, NewRefused, Reaction,
    Received, RefusedArrival, RefusedKey, SealedIncoming, StoredFile,
};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::message::{Backlog, Enqueued, Idempotency, Message, MessageQuery, Page, Promoted, Seq};
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{PurgeRequest, Purged};
use recado_domain::webhook::{
    Delivery, DeliveryClaim, DeliveryClaims, DeliveryId, DeliveryPage, DeliveryQuery, DeliveryRef, DeliveryResult,
    FanOut, NewWebhook, Replay, ReplayBatch, ReplayQuery, SealedWebhook, Webhook, WebhookBacklog, WebhookCreated,
    WebhookKey, WebhookUpdate, WebhookUpdated,
};

use crate::common::webhooks::{claim, fan_out, log, replay, settle, tidy};
use crate::common::{
    Transaction, channels, chats, events, inbox, links, messages, person, purge, schedule, tenants, webhooks,
};
use crate::person::{Erased, Erasure, PersonPage, PersonQuery};
use crate::postgres::{PgStore, Tx};
use crate::sqlite::SqliteStore;
use crate::sqlkit::both::at_once;
use crate::sqlkit::postgres::db::{Failure, with_connection, with_transaction};
use crate::{
    Accounts, Channels, Contacts, Conversations, EventReader, Events, Inbox, Links, Messages, Privacy, Refusals,
    Result, Schedule, Tenants, Webhooks,
};

/// Implements a port for both engines. The word before an operation says how it runs: `read` reads; `call` reads for a
/// caller who waits; `run` is one writing statement; `write` is a transaction.
macro_rules! for_both_engines {
    (impl $port:ident {
        $($how:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $out:ty = |$db:ident| $work:expr;)+
    }) => {
        #[async_trait]
        impl $port for SqliteStore {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$out> {
                on_sqlite!($how, self, $db => $work)
            })+
        }

        #[async_trait]
        impl $port for PgStore {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$out> {
                on_postgres!($how, self, $db => $work)
            })+
        }
    };
}

macro_rules! on_sqlite {
    (write, $store:expr, $db:ident => $work:expr) => {
        $store.write(move |$db| at_once($work)).await
    };
    (run, $store:expr, $db:ident => $work:expr) => {
        $store
            .write(move |writing| {
                let $db = &writing.connection;
                at_once($work)
            })
            .await
    };
    ($look:ident, $store:expr, $db:ident => $work:expr) => {
        $store.readers.read(move |$db| at_once($work)).await
    };
}

macro_rules! on_postgres {
    (write, $store:expr, $db:ident => $work:expr) => {{
        let _share = $store.shares.acquire().await?;
        let done: Result<_> = with_transaction!($store.pool, db => {
            let mut transaction = Tx::new(db);
            let $db = &mut transaction;
            let done = $work.await?;
            Ok::<_, Failure>((done, transaction.changes))
        });
        let (done, changes) = done?;
        $store.follower.notify(changes);
        Ok(done)
    }};
    (call, $store:expr, $db:ident => $work:expr) => {
        with_connection!($store.calls, db => {
            let $db = &db;
            $work
        })
    };
    ($plain:ident, $store:expr, $db:ident => $work:expr) => {{
        let _share = $store.shares.acquire().await?;
        with_connection!($store.pool, db => {
            let $db = &db;
            $work
        })
    }};
}

for_both_engines! {
    impl Tenants {
        read fn institutions() -> Vec<Institution> = |db| tenants::institutions(db);
        write fn create_institution(institution: Institution) -> () = |tx| tenants::create_institution(tx, &institution);
        write fn set_default_country(id: InstitutionId, country: DefaultCountry) -> bool
            = |tx| tenants::set_default_country(tx, id, country);
        read fn api_keys() -> Vec<ApiKey> = |db| tenants::api_keys(db);
        write fn create_api_key(key: ApiKey) -> () = |tx| tenants::create_api_key(tx, &key);
        write fn revoke_api_key(id: ApiKeyId, now: Millis) -> () = |tx| tenants::revoke_api_key(tx, id, now);
        write fn touch_api_keys(used: Vec<(ApiKeyId, Millis)>) -> () = |tx| tx.touch_api_keys(&used);
    }
}

/// The port of events: most of it is written once; a reader is not.
macro_rules! events_port {
    ($($store:ident: $how:ident;)+) => { $(
        #[async_trait]
        impl Events for $store {
            async fn record_messages(&self, owner: Owner, recording: Recording) -> Result<bool> {
                $how!(write, self, tx => events::set_recording(tx, owner, recording))
            }

            async fn event_log(&self, owner: Owner) -> Result<Option<Patterns>> {
                $how!(read, self, db => events::log(db, owner))
            }

            async fn begin_event_log(&self, owner: Owner, log: Patterns) -> Result<Patterns> {
                $how!(write, self, tx => events::begin_log(tx, owner, &log))
            }

            async fn set_event_log(&self, owner: Owner, log: Patterns) -> Result<bool> {
                $how!(write, self, tx => events::set_log(tx, owner, &log))
            }

            async fn record_event(&self, event: NewEvent) -> Result<bool> {
                $how!(run, self, db => events::record(db, &event))
            }

            async fn forget_events(&self, subjects: Vec<EventSubject>) -> Result<u64> {
                $how!(write, self, tx => events::forget_subjects(tx.db(), &subjects))
            }

            async fn event_state(&self) -> Result<EventState> {
                $how!(read, self, db => events::state(db))
            }

            async fn event(&self, owner: Owner, seq: EventSeq) -> Result<Option<Event>> {
                $how!(read, self, db => events::one(db, owner, seq))
            }

            async fn event_time(&self, seq: EventSeq) -> Result<Option<Millis>> {
                $how!(read, self, db => events::time(db, seq))
            }

            async fn event_times(&self, after: EventSeq, limit: usize) -> Result<Vec<(EventSeq, Millis)>> {
                $how!(read, self, db => events::times(db, after, limit))
            }

            fn event_reader(&self) -> Box<dyn EventReader> {
                self.new_event_reader()
            }
        }
    )+ };
}

events_port! {
    SqliteStore: on_sqlite;
    PgStore: on_postgres;
}

for_both_engines! {
    impl Webhooks {
        write fn create_webhook(new: NewWebhook) -> WebhookCreated = |tx| webhooks::create(tx, &new);
        write fn update_webhook(update: WebhookUpdate) -> WebhookUpdated = |tx| webhooks::update(tx, &update);
        write fn delete_webhook(owner: Owner, id: WebhookId) -> bool = |tx| webhooks::delete(tx, owner, id);
        read fn webhook(owner: Owner, id: WebhookId) -> Option<Webhook> = |db| webhooks::one(db, owner, id);
        read fn webhooks(owner: Owner) -> Vec<Webhook> = |db| webhooks::all(db, owner);
        write fn lead_fan_out(node: [u8; 16], now: Millis, until: Millis) -> Option<EventSeq>
            = |tx| fan_out::lead(tx.db(), node, now, until);
        write fn leave_fan_out(node: [u8; 16]) -> () = |tx| fan_out::leave(tx.db(), node);
        write fn fan_out(after: EventSeq, page: EventPage, now: Millis) -> FanOut
            = |tx| fan_out::step(tx.db(), after, &page, now);
        write fn claim_deliveries(claim: DeliveryClaim, except: Vec<WebhookKey>) -> DeliveryClaims
            = |tx| claim::claim(tx.db(), &claim, &except);
        write fn release_deliveries(deliveries: Vec<DeliveryRef>, now: Millis) -> ()
            = |tx| claim::release(tx.db(), &deliveries, now);
        write fn settle_deliveries(results: Vec<DeliveryResult>, now: Millis) -> Vec<WebhookKey>
            = |tx| settle::settle(tx.db(), &results, now);
        write fn disable_webhook(webhook: WebhookKey, now: Millis) -> bool = |tx| webhooks::disable(tx, webhook, now);
        read fn deliveries(query: DeliveryQuery) -> Option<DeliveryPage> = |db| log::page(db, &query);
        read fn webhook_backlogs() -> Vec<WebhookBacklog> = |db| log::backlogs(db);
        read fn count_deliveries(query: DeliveryQuery, most: usize) -> usize = |db| log::count(db, &query, most);
        read fn delivery(owner: Owner, webhook: WebhookId, id: DeliveryId) -> Option<Delivery>
            = |db| log::one(db, owner, webhook, id);
        write fn replay_delivery(owner: Owner, webhook: WebhookId, id: DeliveryId, now: Millis) -> Replay
            = |tx| replay::one(tx.db(), (owner, webhook), id, now);
        write fn replay_deliveries(query: ReplayQuery) -> ReplayBatch = |tx| replay::batch(tx.db(), &query);
        write fn tidy_deliveries(now: Millis) -> bool = |tx| tidy::tidy(tx.db(), now);
        read fn sealed_webhooks(after: WebhookKey, limit: usize) -> Vec<SealedWebhook>
            = |db| webhooks::sealed(db, after, limit);
        run fn reseal_webhook(old: SealedWebhook, new: SealedWebhook) -> bool = |db| webhooks::reseal(db, &old, &new);
    }
}

for_both_engines! {
    impl Schedule {
        write fn promote(now: Millis) -> Promoted = |tx| schedule::promote(tx, now);
        read fn clock() -> Option<Millis> = |db| schedule::clock(db);
    }
}

for_both_engines! {
    impl Channels {
        read fn channels() -> Vec<Channel> = |db| channels::all(db);
        read fn channels_of(owner: (InstitutionId, Environment), after: ChannelKey, limit: usize) -> Vec<Channel>
            = |db| channels::page(db, owner, after, limit);
        read fn channel(key: ChannelKey) -> Option<Channel> = |db| channels::one(db, key);
        write fn create_channel(channel: NewChannel) -> Option<Channel> = |tx| channels::create(tx, &channel);
        write fn move_channel(key: ChannelKey, to: ChannelMove) -> bool = |tx| tx.move_channel(key, &to);
        write fn move_held_channel(held: Held, to: ChannelMove) -> bool = |tx| channels::move_held(tx, held, &to);
        write fn update_channel(key: ChannelKey, name: String, settings: ChannelSettings) -> bool
            = |tx| channels::update(tx, key, &name, &settings);
        write fn restrict_channel(key: ChannelKey, until: Millis, reason: String, now: Millis) -> bool
            = |tx| tx.restrict(key, until, &reason, now);
        write fn defer_channel(channel: ChannelKey, until: Millis) -> () = |tx| tx.defer(channel, until);
        write fn delete_channel(key: ChannelKey, by: Actor, now: Millis) -> () = |tx| channels::delete(tx, key, by, now);
        read fn state_events() -> Vec<(ChannelKey, ChannelEvent)> = |db| events::of_states(db);
        read fn channel_events(query: ChannelEventQuery) -> ChannelEventPage = |db| events::of_channel(db, query);
    }
}

for_both_engines! {
    impl Links {
        read fn links() -> Vec<Link> = |db| links::all(db);
        read fn link(channel: ChannelKey) -> Option<Link> = |db| links::one(db, channel);
        write fn link_channel(link: Link, expected: ChannelState, by: Actor, now: Millis) -> bool
            = |tx| links::set(tx, &link, (expected, Some(by)), now);
        write fn link_held_channel(link: Link, held: Held, expected: ChannelState, now: Millis) -> bool
            = |tx| links::set_held(tx, &link, (held, expected), now);
        run fn reseal_link(channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> bool = |db| links::reseal(db, channel, &old, &new);
        run fn ban_link(channel: ChannelKey, until: Millis) -> () = |db| links::ban(db, channel, until);
        run fn note_login(channel: ChannelKey, at: Millis) -> () = |db| links::note_login(db, channel, at);
        read fn login_limits(channel: ChannelKey) -> LoginLimits = |db| links::rest(db, channel);
    }
}

for_both_engines! {
    impl Accounts {
        call fn known_account(channel: ChannelKey, phone: String) -> Option<KnownAccount>
            = |db| chats::known_account(db, (channel, &phone));
        write fn note_account(channel: ChannelKey, phone: String, account: Option<Party>, now: Millis) -> ()
            = |tx| chats::note_account(tx, (channel, &phone), account.as_ref(), now);
        write fn note_chat(channel: ChannelKey, who: Party) -> bool = |tx| chats::note(tx, channel, &who);
        read fn unasked_recipients(channel: ChannelKey, lid: String, limit: u32) -> Vec<String>
            = |db| chats::unasked(db, (channel, &lid), limit);
        call fn account(channel: ChannelKey, recipient: String) -> Option<String> = |db| chats::last_account(db, (channel, &recipient));
    }
}

for_both_engines! {
    impl Messages {
        read fn message(channel: ChannelKey, id: MessageId) -> Option<Message> = |db| messages::one(db, channel, id);
        read fn message_of_network(channel: ChannelKey, recipient: String, network_id: String) -> Option<Message>
            = |db| messages::of_network(db, channel, &recipient, &network_id);
        read fn earlier_use(key: Idempotency) -> Option<Enqueued> = |db| messages::earlier_use(db, &key);
        read fn messages(query: MessageQuery) -> Option<Page> = |db| messages::page(db, &query);
        read fn backlogs() -> Vec<Backlog> = |db| messages::backlogs(db);
    }
}

for_both_engines! {
    impl Inbox {
        write fn store_arrivals(arrivals: Arrivals, now: Millis) -> Vec<Received> = |tx| inbox::receive_and_report(tx, &arrivals, now);
        write fn store_held_arrivals(held: Held, arrivals: Arrivals, now: Millis) -> Option<Vec<Received>>
            = |tx| inbox::receive_held(tx, held, &arrivals, now);
        read fn incoming(channel: ChannelKey, id: MessageId) -> Option<Incoming> = |db| inbox::message(db, channel, id);
        read fn incoming_of_network(channel: ChannelKey, network_id: String) -> Vec<Incoming>
            = |db| inbox::of_network(db, channel, &network_id);
        read fn reactions(channel: ChannelKey, network_ids: Vec<String>) -> Vec<(String, Reaction)>
            = |db| inbox::reactions::of_messages(db, channel, &network_ids);
        read fn incoming_raw(channel: ChannelKey, id: MessageId) -> Option<Vec<u8>> = |db| inbox::raw(db, channel, id);
        read fn incoming_page(query: IncomingQuery) -> IncomingPage = |db| inbox::page(db, &query);
        read fn media(owner: Owner, id: MediaId) -> Option<Media> = |db| inbox::media::one(db, owner, id);
        write fn media_stored(id: MediaId, size: u64, sha256: String, now: Millis) -> bool
            = |tx| inbox::media::stored(tx.db(), id, (size, &sha256), now);
        write fn media_gone(id: MediaId, was: MediaState) -> bool = |tx| inbox::media::gone(tx.db(), id, was);
        write fn media_read(id: MediaId, now: Millis) -> bool = |tx| inbox::media::read(tx.db(), id, now);
        write fn release_media(before: Millis) -> u64 = |tx| inbox::media::release(tx.db(), before);
        write fn release_files(ids: Vec<MediaId>) -> u64 = |tx| inbox::media::release_these(tx.db(), &ids);
        read fn stored_files(ids: Vec<MediaId>) -> Vec<StoredFile> = |db| inbox::media::which_stored(db, &ids);
        read fn sealed_incoming(after: Seq, limit: usize) -> Vec<SealedIncoming>
            = |db| inbox::sealed::page(db, after, limit);
        write fn reseal_incoming(old: SealedIncoming, new: SealedIncoming) -> bool
            = |tx| inbox::sealed::replace(tx.db(), &old, &new);
        write fn delete_contents(now: Millis) -> ContentsDeleted = |tx| inbox::contents::delete_due(tx.db(), now);
        write fn clear_inbox(owner: Owner) -> Option<Vec<MediaId>> = |tx| inbox::clear::all(tx.db(), owner);
    }
}

for_both_engines! {
    impl Refusals {
        write fn keep_refused(channel: ChannelKey, refused: Vec<NewRefused>, now: Millis) -> bool
            = |tx| inbox::refused::keep(tx.db(), channel, &refused, now);
        read fn due_refused(now: Millis, limit: usize) -> Vec<RefusedArrival> = |db| inbox::refused::due(db, now, limit);
        write fn store_refused(key: RefusedKey, arrivals: Arrivals, now: Millis) -> Option<Vec<Received>>
            = |tx| inbox::refused::store(tx, &key, &arrivals, now);
        run fn defer_refused(key: RefusedKey, now: Millis) -> () = |db| inbox::refused::defer(db, &key, now);
        run fn forget_refused(key: RefusedKey) -> bool = |db| inbox::refused::forget(db, &key);
        read fn sealed_refused(after: Option<RefusedKey>, limit: usize) -> Vec<RefusedArrival>
            = |db| inbox::refused::page(db, after.as_ref(), limit);
        run fn reseal_refused(old: RefusedArrival, new: Vec<u8>) -> bool
            = |db| inbox::refused::reseal(db, &old, &new);
    }
}

for_both_engines! {
    impl Conversations {
        read fn conversations(query: ConversationQuery) -> ConversationPage = |db| inbox::conversations::page(db, &query);
        read fn conversation(owner: Owner, id: ConversationId) -> Option<Conversation>
            = |db| inbox::conversations::one(db, owner, id);
        read fn conversation_messages(query: ConversationMessages) -> Option<InboxPage>
            = |db| inbox::conversations::messages(db, query);
        write fn change_conversation(owner: Owner, id: ConversationId, change: Change, now: Millis) -> Changed
            = |tx| inbox::conversations::change(tx.db(), (owner, id), &change, now);
        write fn read_conversation(owner: Owner, id: ConversationId, now: Millis) -> Option<MarkedRead>
            = |tx| inbox::conversations::read(tx, (owner, id), now);
        write fn due_reads(claim: ReadClaim) -> ReadClaims = |tx| inbox::signals::claim(tx.db(), &claim);
        write fn end_read(signal: ReadSignal, retry_at: Option<Millis>, now: Millis) -> ()
            = |tx| inbox::signals::end(tx.db(), &signal, retry_at, now);
        read fn latest_conversation(owner: Owner, channel: ChannelKey, recipient: String) -> Option<Conversation>
            = |db| inbox::latest::latest(db, owner, (channel, &recipient));
        write fn name_group(channel: ChannelKey, address: String, name: String) -> ()
            = |tx| inbox::conversations::name_group(tx.db(), channel, (&address, &name));
        write fn close_idle(channel: ChannelKey, before: Millis, now: Millis) -> usize
            = |tx| inbox::closing::close_idle(tx.db(), channel, before, now);
        read fn deleted_channel_with_conversations() -> Option<ChannelKey>
            = |db| inbox::closing::deleted_channel_with_conversations(db);
        write fn close_of_deleted(channel: ChannelKey, now: Millis) -> usize
            = |tx| inbox::closing::close_of_deleted(tx.db(), channel, now);
        write fn finish_left() -> bool = |tx| inbox::unfinished::step(tx.db());
    }
}

for_both_engines! {
    impl Contacts {
        read fn contacts(query: ContactQuery) -> ContactPage = |db| inbox::contacts::page(db, &query);
        read fn contact(owner: Owner, id: ContactId) -> Option<Contact> = |db| inbox::contact(db, owner, id);
        read fn contact_of_phone(owner: Owner, phone: String) -> Option<Contact>
            = |db| inbox::contacts::of_phone(db, owner, &phone);
        write fn create_contact(contact: NewContact, now: Millis) -> ContactChanged
            = |tx| inbox::contacts::create(tx.db(), &contact, now);
        write fn change_contact(owner: Owner, id: ContactId, change: ContactChange, now: Millis) -> ContactChanged
            = |tx| inbox::contacts::change(tx.db(), (owner, id), &change, now);
        write fn put_contact(owner: Owner, phone: String, change: ContactChange, now: Millis) -> ContactPut
            = |tx| inbox::contacts::put(tx.db(), (owner, &phone), &change, now);
        write fn delete_contact(owner: Owner, id: ContactId) -> bool
            = |tx| inbox::contacts::delete(tx.db(), (owner, id));
    }
}

for_both_engines! {
    impl Privacy {
        read fn person(query: PersonQuery) -> PersonPage = |db| person::page(db, &query);
        write fn erase_person(erasure: Erasure, now: Millis) -> Erased = |tx| person::erase(tx, &erasure, now);
        run fn purge(request: PurgeRequest) -> Purged = |db| purge::purge(db, &request);
    }
}
