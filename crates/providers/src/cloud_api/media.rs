//! Files of received messages: Graph names the URL of a file for five minutes, and the bytes come from there with the token.
//! The token goes only to hosts of Meta.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use recado_domain::channel::ChannelRef;
use recado_domain::clock::millis;
use recado_domain::ids::InstitutionId;
use recado_domain::incoming::Media;
use secrecy::ExposeSecret;

use super::answer::{self, Answer, File};
use super::client::{Failure, Graph};
use super::link::Link;
use super::{CloudApi, incoming};
use crate::media::{self, Download, MediaError};
use crate::outbound::BaseUrl;
use crate::outbound::address::{Allowed, Network};
use crate::outbound::client::Client;
use crate::outbound::url::{Host, TargetUrl};

/// The domains under which Meta has files.
const HOSTS: [&str; 4] = ["facebook.com", "fbcdn.net", "fbsbx.com", "whatsapp.net"];
/// How long the ids of callbacks can be used (Meta's reference, "Media").
const KEPT: Duration = Duration::from_hours(7 * 24);
/// The wait before another URL is asked for. A file may have just arrived, and not be on all of Meta's servers yet.
const AGAIN: Duration = Duration::from_secs(2);
/// The code and the subcode of an object that does not exist, or that the token may not see.
const NO_SUCH_OBJECT: (i64, i64) = (100, 33);

/// The client for files. A Graph on this machine has its files on this machine, too.
pub(super) fn client(graph: &BaseUrl) -> Client {
    let own: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let networks = own.into_iter().filter(|_| graph.loopback).map(Network::from).collect();
    Client::new(Allowed::new(networks, Vec::new()))
}

/// Whether a URL leads to Meta, or to the same server as a Graph on this machine.
fn is_trusted(url: &TargetUrl, graph: &BaseUrl) -> bool {
    if graph.loopback {
        let own = TargetUrl::parse(&graph.text);
        return own.is_ok_and(|own| (own.secure, own.authority()) == (url.secure, url.authority()));
    }
    let Host::Name(name) = &url.host else { return false };
    let is_under = |domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    url.secure && HOSTS.iter().any(|domain| is_under(domain))
}

impl Graph {
    /// Where the bytes of a file are now.
    async fn file(&self, link: &Link, id: &str) -> Result<File, MediaError> {
        let path = format!("/{id}?phone_number_id={}", link.phone_number_id());
        let answered = self.call(link, Method::GET, &path, Vec::new()).await;
        let (status, body) =
            answered.map_err(|(Failure::NotSent | Failure::Unknown)| MediaError::Unavailable("no answer"))?;
        match answer::file(status, &body) {
            Answer::Good(file) => Ok(file),
            Answer::Refused(error)
                if (error.code, error.subcode) == (Some(NO_SUCH_OBJECT.0), Some(NO_SUCH_OBJECT.1)) =>
            {
                Err(MediaError::Gone)
            }
            _ if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) => Err(MediaError::Gone),
            Answer::Refused(_) => Err(MediaError::Unavailable("refused")),
            Answer::Unreadable => Err(MediaError::Unavailable("answer not recognised")),
        }
    }

    /// Begins to read the bytes of a file of an institution.
    async fn download(
        &self,
        link: &Link,
        of: InstitutionId,
        file: File,
        media: &Media,
    ) -> Result<Download, MediaError> {
        let url = TargetUrl::parse(&file.url).map_err(|_| MediaError::Unavailable("no URL"))?;
        if !is_trusted(&url, self.url()) {
            return Err(MediaError::Unavailable("host refused"));
        }
        let bearer = format!("Bearer {}", link.access_token().expose_secret());
        let mut token = HeaderValue::from_str(&bearer).map_err(|_| MediaError::Unavailable("no token"))?;
        token.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, token)]);
        // The message says it, but not in the callbacks of every kind.
        let sha256 = media.about.sha256.clone().or_else(|| file.sha256.as_deref().and_then(incoming::digest));
        Ok(Download { sha256, ..media::open(self.files(), &url, of, headers).await? })
    }
}

impl CloudApi {
    /// Begins the download of a file. Its URL may have expired, so another one is asked for once.
    pub(super) async fn fetch(&self, via: &ChannelRef, media: &Media) -> Result<Download, MediaError> {
        let link = self.get(via.key).ok_or(MediaError::NotConnected)?;
        let id = media.about.remote_id.as_deref().ok_or(MediaError::Gone)?;
        // Until Meta deletes the file, its absence can be a fault of Meta, or the token has lost its permission for a time.
        let is_kept = self.context.clock.now() - media.id.made_at() < millis(KEPT);
        let mut is_second = false;
        loop {
            let file = match self.graph.file(&link, id).await {
                Err(MediaError::Gone) if is_kept => return Err(MediaError::Unavailable("object not found")),
                file => file?,
            };
            match self.graph.download(&link, via.institution, file, media).await {
                Err(MediaError::Gone) if !is_second => {
                    is_second = true;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(MediaError::Gone) if is_kept => return Err(MediaError::Unavailable("file not found")),
                download => return download,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fake_graph::{FakeGraph, File as NetworkFile, FileCalls, Number, Serving};
    use recado_domain::clock::{Clock, Millis};
    use recado_domain::field_errors::Field;
    use recado_domain::ids::{InstitutionId, MediaId, MessageId};
    use recado_domain::incoming::{MediaState, NewMedia};
    use recado_store::clock::SystemClock;
    use recado_store::fixtures::{Ground, SqliteFile};

    use super::*;
    use crate::Context;

    /// Meta may fail to find a file that it still has, so only the age of the file makes the absence final.
    #[tokio::test]
    async fn a_file_that_is_not_found_is_gone_only_after_meta_has_deleted_it() {
        let (network, number) = (FakeGraph::start(), Number::example("106540352242922"));
        network.add_number(number.clone());
        let graph = Graph::new(&network.url(), "v23.0").expect("a good address");
        let cloud_api = CloudApi::new(graph, Context::on(Ground::on(SqliteFile::new()).await.store));
        let fields = [&*number.id, &*number.business_account_id, &*number.access_token, "palavra", ""];
        cloud_api.set(7, Arc::new(Link::parse(&fields.map(Field::from), None).expect("a link")));
        let via = ChannelRef {
            key: 7,
            institution: InstitutionId::new(1, [0; 10]),
            id: "loja".parse().expect("a channel id"),
        };
        let day: Millis = 24 * 60 * 60 * 1_000;
        let fetch = async |age: Millis, serving: &[Serving]| {
            network.put_file("1003", NetworkFile::new("image/jpeg", "x").serving(serving.to_vec()));
            let media = Media {
                id: MediaId::new(SystemClock.now() - age, [1; 10]),
                message: MessageId::new(1, [1; 10]),
                channel: 7,
                state: MediaState::Remote,
                about: NewMedia { remote_id: Some("1003".to_owned()), ..NewMedia::default() },
                read_at: None,
            };
            let fetched = cloud_api.fetch(&via, &media).await.map(drop);
            (fetched, network.file_calls("1003"))
        };
        let twice = FileCalls { asked: 2, downloaded: 2 };
        for status in [404, 410] {
            let lost = [Serving::Status(status)];
            let later = Err(MediaError::Unavailable("file not found"));
            assert_eq!(fetch(6 * day, &lost).await, (later, twice), "{status}");
            assert_eq!(fetch(8 * day, &lost).await, (Err(MediaError::Gone), twice), "{status}");
        }
        assert_eq!(fetch(6 * day, &[Serving::Status(404), Serving::Whole]).await, (Ok(()), twice));
    }

    fn trusted(url: &str, graph: &str) -> bool {
        let graph = BaseUrl::parse("graph", graph).expect("a URL");
        TargetUrl::parse(url).is_ok_and(|url| is_trusted(&url, &graph))
    }

    #[test]
    fn the_token_goes_to_hosts_of_meta_alone() {
        let meta = "https://graph.facebook.com";
        for good in [
            "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1&ext=2",
            "https://scontent.xx.fbcdn.net/v/1",
            "https://FBSBX.com/",
            "https://mmg.whatsapp.net:443/x",
        ] {
            assert!(trusted(good, meta), "{good}");
        }
        for bad in [
            "http://lookaside.fbsbx.com/x",
            "https://evilfbsbx.com/",
            "https://fbsbx.com.evil.example/",
            "https://evil.example/fbsbx.com",
            "https://127.0.0.1/",
            "https://lookaside.fbsbx.com@evil.example/",
        ] {
            assert!(!trusted(bad, meta), "{bad}");
        }
        assert!(trusted("http://127.0.0.1:4000/files/1", "http://127.0.0.1:4000"));
        for bad in ["http://127.0.0.1:4001/", "https://127.0.0.1:4000/", "https://lookaside.fbsbx.com/"] {
            assert!(!trusted(bad, "http://127.0.0.1:4000"), "{bad}");
        }
    }
}
