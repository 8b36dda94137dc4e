//! Sockets of clients that are gone without a word.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::app::TestApp;

/// Opcode of a ping, with the bit of a last fragment, and its empty length.
const PING: [u8; 2] = [0x89, 0x00];

/// The clock of the test runs ahead whenever nobody has anything to do, so minutes take no time.
#[tokio::test]
async fn c30_d30_a_socket_that_answers_no_ping_is_let_go() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let request = format!(
        "GET /ws?conv_id=c HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        app.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("ws.hello") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "refused");
    }
    tokio::time::pause();
    let opened = Instant::now();
    let mut after = Vec::new();
    let end = tokio::time::timeout(Duration::from_mins(5), stream.read_to_end(&mut after)).await;
    end.expect("it is held for ever").unwrap();
    let open = opened.elapsed();
    let pings = after.windows(2).filter(|pair| *pair == PING).count();
    assert!(pings >= 2, "it was asked: {after:?}");
    assert!(open >= Duration::from_mins(1), "after {open:?}: pings may be late");
}
