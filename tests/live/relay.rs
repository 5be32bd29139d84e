//! A relay in front of a server, in which something happens when a word comes by.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use lab::Server;
use relinkd::model::Endpoint;

/// What is to happen when somebody says the word there, before the server hears it.
pub fn on_word(server: &Server, word: &'static str, act: impl Fn() + Send + Sync + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (peer, act) = (server.address(), Arc::new(act));
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let (mut server, act) = (TcpStream::connect(&peer).expect("the server"), Arc::clone(&act));
            let (mut back, mut answers) =
                (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            thread::spawn(move || {
                let _ = std::io::copy(&mut answers, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let mut chunk = [0; 16 * 1024];
                while let Ok(count @ 1..) = client.read(&mut chunk) {
                    let said = &chunk[..count];
                    if said.windows(word.len()).any(|window| window == word.as_bytes()) {
                        act();
                    }
                    if server.write_all(said).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    Endpoint::new("127.0.0.1", address.port())
}
