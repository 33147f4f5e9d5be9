//! Floods: memory stays bounded, others are served, and the log has every decision.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::get;
use crate::origin::{Origin, world};
use crate::world::{HOST, World};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DEADLINE: Duration = Duration::from_secs(20);

/// An HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A request's header block for `http://evil.test/` (RFC 7541: static table, one literal).
fn block() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 9];
    block.extend(b"evil.test");
    block
}

/// Opens HTTP/2 to the proxy and discards what comes back until it closes.
async fn open(world: &World) -> (tokio::net::tcp::OwnedWriteHalf, tokio::task::JoinHandle<usize>) {
    let (mut read, mut write) = TcpStream::connect(world.proxy).await.unwrap().into_split();
    write.write_all(PREFACE).await.unwrap();
    write.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        while let Ok(n @ 1..) = read.read(&mut buffer).await {
            total += n;
        }
        total
    });
    (write, reader)
}

async fn others_are_served(world: &World, origin: &Origin) {
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn class22_rapid_reset_ends_the_connection() {
    let (world, origin) = world().await;
    let (mut write, reader) = open(&world).await;
    let mut broke = false;
    for n in 0..200_000u32 {
        let stream = 2 * n + 1;
        let mut both = frame(1, 0x5, stream, &block());
        both.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
        if write.write_all(&both).await.is_err() {
            broke = true;
            break;
        }
    }
    drop(write);
    tokio::time::timeout(DEADLINE, reader).await.expect("the connection must end").unwrap();
    assert!(broke, "the connection must end before 200,000 resets");
    others_are_served(&world, &origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn class22_a_continuation_flood_ends_the_connection() {
    let (world, origin) = world().await;
    let (mut write, reader) = open(&world).await;
    // Never END_HEADERS; each frame adds 16 KB of header text.
    let mut literal = vec![0x40, 1, b'x', 0x7f, 0x81, 0x7c];
    literal.extend(vec![b'y'; 16_000]);
    literal.truncate(16_384);
    write.write_all(&frame(1, 0x1, 1, &block())).await.unwrap();
    let mut sent = 0;
    while sent < 100 << 20 {
        let next = frame(9, 0, 1, &literal);
        sent += next.len();
        if write.write_all(&next).await.is_err() {
            break;
        }
    }
    assert!(sent < 10 << 20, "{sent} bytes of one header block were taken");
    drop(write);
    tokio::time::timeout(DEADLINE, reader).await.expect("the connection must end").unwrap();
    others_are_served(&world, &origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn class22_an_hpack_bomb_is_refused() {
    let (world, origin) = world().await;
    let (mut write, reader) = open(&world).await;
    // One large entry in the dynamic table, then references to it: small frames, a huge header list.
    let mut first = block();
    first.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    first.extend(vec![b'y'; 4000]);
    write.write_all(&frame(1, 0x5, 1, &first)).await.unwrap();
    let mut bomb = block();
    bomb.extend(vec![0xbe; 16_000]);
    for n in 1..50 {
        if write.write_all(&frame(1, 0x5, 2 * n + 1, &bomb)).await.is_err() {
            break;
        }
    }
    others_are_served(&world, &origin).await;
    drop(write);
    tokio::time::timeout(DEADLINE, reader).await.expect("the connection must end").unwrap();
    assert!(origin.requests().len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn class22_many_slow_clients_do_not_stop_the_others_and_no_event_is_lost() {
    let (world, origin) = world().await;
    let mut slow = Vec::new();
    for _ in 0..500 {
        let mut tcp = TcpStream::connect(world.proxy).await.unwrap();
        tcp.write_all(b"GET http://evil.test/ HTTP/1.1\r\nHost: ev").await.unwrap();
        slow.push(tcp);
    }
    for _ in 0..20 {
        others_are_served(&world, &origin).await;
    }
    assert_eq!(world.log.records().len(), 20);
    assert_eq!(origin.requests().len(), 20);
}
