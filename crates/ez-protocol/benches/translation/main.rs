//! What translation costs: a large request of an agent, and each event of a stream, for every pair of protocols. Absolute
//! figures belong to the machine; ratios within one run are what counts.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures and stops where it fails")]

mod clock;
mod material;

use ez_contract::Protocol;
use ez_protocol::sse::EventFramer;
use ez_protocol::stream::{Meaning::Content, StreamReader};

use clock::{Cost, cost};
use material::{Stream, api, conversation, exchange, pairs, streams};

fn main() {
    println!("One request of {} kB, 60 turns, 20 tools; beside serde_json reading it and writing it again.\n", {
        conversation(Protocol::OpenaiChat).len() / 1000
    });
    println!("{:<42} {:>9} {:>9}", "client to upstream", "us", "ratio");
    for (client, upstream) in pairs() {
        let request = of_request(client, upstream);
        println!("{:<42} {:>9.0} {:>9.2}", title(client, upstream), request.ns / 1e3, request.ratio);
    }
    println!("\nEach event of a stream; beside what is read of events that pass as they came.\n");
    println!("{:<42} {:>9} {:>9} {:>9} {:>9}", "upstream to client", "text ns", "ratio", "tools ns", "ratio");
    for (client, vendor) in pairs() {
        let [text, tools] = streams(vendor).map(|stream| of_stream(client, vendor, &stream));
        println!(
            "{:<42} {:>9.0} {:>9.2} {:>9.0} {:>9.2}",
            title(vendor, client),
            text.ns,
            text.ratio,
            tools.ns,
            tools.ratio,
        );
    }
}

fn title(from: Protocol, to: Protocol) -> String {
    format!("{from} to {to}")
}

/// Translation of a request, and the same body through `serde_json`.
fn of_request(client: Protocol, upstream: Protocol) -> Cost {
    let body = conversation(client);
    cost(
        1,
        || exchange(client, upstream, &body).body.len(),
        || {
            let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
            serde_json::to_vec(&document).unwrap().len()
        },
    )
}

/// Translation of a stream, and what is read of the same where it passes as it came; per event.
fn of_stream(client: Protocol, vendor: Protocol, stream: &Stream) -> Cost {
    let least = material::least(client);
    cost(
        stream.events,
        || {
            let mut translator = exchange(client, vendor, least).answer;
            let mut reader = StreamReader::new(api(vendor));
            let mut bytes = 0;
            framed(&stream.bytes, |event| {
                reader.read(event);
                bytes += translator.event(event).len();
            });
            bytes + translator.finish().len()
        },
        || {
            let mut reader = StreamReader::new(api(vendor));
            let mut content = 0;
            framed(&stream.bytes, |event| content += usize::from(reader.read(event) == Content));
            content
        },
    )
}

/// Tells the events of a stream that comes in reads of the size of a packet.
fn framed(stream: &[u8], mut tell: impl FnMut(&[u8])) {
    const PACKET_BYTES: usize = 1_400;
    let mut framer = EventFramer::new(1 << 20);
    for packet in stream.chunks(PACKET_BYTES) {
        framer.push(packet);
        while let Some(event) = framer.next_event().unwrap() {
            tell(&event);
        }
    }
}
