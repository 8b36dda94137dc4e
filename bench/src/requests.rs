//! The requests of the suite and what answers them.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::load::{Answer, Workload, ask, header};
use crate::sample::{Template, slug};
use crate::server::TOKEN;

/// The head of a request with a token; `more` are header lines.
pub(crate) fn request(method: &str, path: &str, more: &str, length: Option<usize>) -> Vec<u8> {
    let body = length.map_or_else(String::new, |n| {
        format!("content-type: application/json\r\ncontent-length: {n}\r\n")
    });
    format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\
         accept: application/json\r\n{more}{body}\r\n"
    )
    .into_bytes()
}

/// The address of profile `i`.
pub(crate) fn path(i: usize) -> String {
    format!("/api/chat/profiles/{}", slug(i))
}

struct Exchange {
    request: Vec<u8>,
    status: u16,
    body: Vec<u8>,
}

/// Reads with known answers, in an order that no cache likes.
pub(crate) struct Reads {
    exchanges: Vec<Exchange>,
    /// The head of the first answer, for a limit that sends the same.
    pub(crate) head: Vec<u8>,
}

impl Reads {
    /// Asks for each path once and remembers the answer; with `conditional` the requests carry its tag.
    pub(crate) fn of(address: SocketAddr, paths: &[String], conditional: bool) -> Result<Self> {
        let mut requests: Vec<_> =
            paths.iter().map(|path| request("GET", path, "", None)).collect();
        let mut answers = ask(address, &requests)?;
        if conditional {
            for (request_of, (path, (head, _))) in
                requests.iter_mut().zip(paths.iter().zip(&answers))
            {
                let line =
                    format!("if-none-match: {}\r\n", header(head, "etag").unwrap_or_default());
                *request_of = request("GET", path, &line, None);
            }
            answers = ask(address, &requests)?;
        }
        let status = if conditional { 304 } else { 200 };
        let head = answers.first().map(|(head, _)| head.clone()).unwrap_or_default();
        let exchanges = requests
            .into_iter()
            .zip(answers)
            .map(|(request, (head, body))| {
                ensure!(
                    head.starts_with(format!("HTTP/1.1 {status}").as_bytes()),
                    "unexpected answer: {}",
                    String::from_utf8_lossy(&head)
                );
                Ok(Exchange { request, status, body })
            })
            .collect::<Result<_>>()?;
        Ok(Self { exchanges, head })
    }

    /// The body of the first answer.
    pub(crate) fn body(&self) -> &[u8] {
        self.exchanges.first().map(|exchange| &exchange.body[..]).unwrap_or_default()
    }

    /// The first exchange alone.
    pub(crate) fn first(&self) -> Self {
        let first = self.exchanges.first();
        let exchanges = first.map(|first| Exchange {
            request: first.request.clone(),
            status: first.status,
            body: first.body.clone(),
        });
        Self { exchanges: exchanges.into_iter().collect(), head: self.head.clone() }
    }

    fn at(&self, n: u64) -> &Exchange {
        let count = self.exchanges.len() as u64;
        &self.exchanges[usize::try_from(n.wrapping_mul(7919) % count).unwrap_or(0)]
    }
}

impl Workload for Reads {
    fn write(&self, n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at(n).request);
    }

    fn accepts(&self, n: u64, answer: &Answer<'_>) -> bool {
        let expected = self.at(n);
        answer.status == expected.status && answer.body == expected.body
    }
}

/// Durable writes.
pub(crate) struct Writes {
    heads: Vec<Vec<u8>>,
    template: Template,
    status: u16,
}

impl Writes {
    /// `PATCH`es spread over `n` profiles.
    pub(crate) fn patches(n: usize) -> Result<Self> {
        let template = Template::patch()?;
        let heads = (0..n).map(|i| request("PATCH", &path(i), "", Some(template.len()))).collect();
        Ok(Self { heads, template, status: 200 })
    }

    /// Creates of profiles that are not there.
    pub(crate) fn creates() -> Result<Self> {
        let template = Template::create()?;
        let heads = vec![request("POST", "/api/chat/profiles", "", Some(template.len()))];
        Ok(Self { heads, template, status: 201 })
    }

    /// Request `n` as bytes.
    pub(crate) fn bytes(&self, n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(n, &mut out);
        out
    }
}

impl Workload for Writes {
    fn write(&self, n: u64, out: &mut Vec<u8>) {
        let count = self.heads.len() as u64;
        let place = usize::try_from(n.wrapping_mul(7919) % count).unwrap_or(0);
        out.extend_from_slice(&self.heads[place]);
        self.template.write(n, out);
    }

    fn accepts(&self, n: u64, answer: &Answer<'_>) -> bool {
        // The answer is the committed state, so it says what this request wrote.
        let serial = format!("{n:010}");
        answer.status == self.status
            && answer.body.windows(serial.len()).any(|window| window == serial.as_bytes())
    }
}
