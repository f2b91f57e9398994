//! The fake must be fast enough that a bench of the gateway does not measure the fake.

use std::time::{Duration, Instant};

use fake_graph::{Behaviour, Number};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::harness::{NUMBER, Sink, TO, graph, message, messages, wait_for_callbacks};

const AT_A_TIME: usize = 400;
const EACH: usize = 10;

/// Hundreds of calls wait concurrently for answers of 50 ms, and none delays another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_sends_wait_at_a_time() {
    let (graph, sink) = (graph(), Sink::start());
    graph.send_callbacks_to(Some(sink.url.clone()));
    graph.behave(|_| Behaviour::accept().after(Duration::from_millis(50)));
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let url = format!("{}{}", graph.url(), messages(NUMBER));
    let begun = Instant::now();
    let callers: Vec<_> = (0..AT_A_TIME)
        .map(|_| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let request = Request::post(&url)
                        .header("Authorization", format!("Bearer {}", Number::example(NUMBER).access_token))
                        .header("Content-Type", "application/json")
                        .body(Full::from(message(TO).to_string()))
                        .expect("a valid request");
                    let answer = client.request(request).await.expect("an answer");
                    assert_eq!(answer.status(), 200);
                    answer.into_body().collect().await.expect("a whole body");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    let sent = begun.elapsed();
    wait_for_callbacks(&graph);
    println!(
        "{} sends, {AT_A_TIME} at a time: {sent:?}; with their callbacks: {:?}",
        graph.accepted(),
        begun.elapsed()
    );
    assert_eq!(graph.accepted(), (AT_A_TIME * EACH) as u64);
    assert_eq!(graph.callbacks_acknowledged(), graph.accepted() * 3);
}
