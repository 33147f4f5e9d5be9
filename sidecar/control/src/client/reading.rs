//! What the messages of one stream do, in their order.

use std::collections::{BTreeSet, HashMap};

use clawlock_policy::SpiffeId;
use rustls_pki_types::CertificateDer;

use super::store::Store;
use super::{Canaries, Receiver};
use crate::{Lines, ToClient, ToServer};

/// Most acknowledgements that are sent at once.
const BATCH: usize = 128;

/// What was read of one stream.
#[derive(Default)]
pub(super) struct Reading {
    lines: Lines,
    /// Identities whose assignment came on this stream, and the generation of each that was put in force.
    announced: HashMap<String, Option<u64>>,
    /// Identities whose generation is to be acknowledged.
    due: BTreeSet<String>,
    /// The roots that were named last, until somebody asks.
    roots: Option<Vec<CertificateDer<'static>>>,
}

impl Reading {
    /// Takes a piece of the stream. Answers whether it held a message.
    pub(super) fn take(&mut self, piece: &[u8], store: &mut Store, receiver: &dyn Receiver) -> Result<bool, String> {
        self.lines.push(piece);
        let mut any = false;
        while let Some(message) = self.lines.next_message().map_err(|error| error.to_string())? {
            self.receive(message, store, receiver)?;
            any = true;
        }
        Ok(any)
    }

    /// The roots that are trusted from now on, when they were named since this was asked last.
    pub(super) fn roots(&mut self) -> Option<Vec<CertificateDer<'static>>> {
        self.roots.take()
    }

    /// The acknowledgements that are due, as many as are sent at once: one for each identity that has another
    /// generation in force than the one that was acknowledged last. A refused assignment is not acknowledged, so that
    /// the status shows whose is not in force.
    pub(super) fn acknowledge(&mut self) -> Vec<ToServer> {
        let mut acks = Vec::new();
        while acks.len() < BATCH
            && let Some(identity) = self.due.pop_first()
        {
            if let Some(Some(generation)) = self.announced.get(&identity) {
                acks.push(ToServer::Ack { generation: *generation, identity: Some(identity) });
            }
        }
        acks
    }

    fn receive(&mut self, message: ToClient, store: &mut Store, receiver: &dyn Receiver) -> Result<(), String> {
        match message {
            ToClient::Trust { roots, keys } => {
                let trust = super::enrol::trust(&roots, &keys)?;
                receiver.trust(&trust)?;
                self.roots = Some(trust.roots);
            }
            ToClient::Document { digest, envelope } => store.insert(digest, envelope)?,
            ToClient::Assignment { identity, envelope, digests } => {
                let documents = store.find(&digests)?;
                let acknowledged = self.announced.entry(identity.clone()).or_default();
                match receiver.assignment(&envelope.0, &documents) {
                    Ok(generation) => {
                        if acknowledged.replace(generation) != Some(generation) {
                            self.due.insert(identity.clone());
                        }
                        store.name(identity, digests);
                    }
                    Err(why) => {
                        // What was in force stays.
                        tracing::warn!(%identity, %why, "an assignment was refused");
                    }
                }
            }
            ToClient::Remove { identity } => {
                self.announced.remove(&identity);
                store.remove(&identity);
                receiver.remove(&parse(&identity)?);
            }
            ToClient::Canaries { tripwire, nodes } => receiver.canaries(Canaries { tripwire, nodes }),
            ToClient::Synced {} => {
                // Whoever was not named again went away while there was no stream.
                for identity in store.identities() {
                    if !self.announced.contains_key(&identity) {
                        store.remove(&identity);
                        receiver.withdraw(&parse(&identity)?);
                    }
                }
                receiver.synced();
            }
            ToClient::Ping {} => {}
            ToClient::Unknown => tracing::info!("a message of a newer operator was passed over"),
        }
        Ok(())
    }
}

fn parse(identity: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(identity).map_err(|error| format!("an identity cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Identity, Trust};
    use crate::message::MAX_TRUSTED;
    use crate::{Encoded, encode_line};
    use std::sync::Mutex;

    const ONE: &str = "spiffe://a.example/ns/a/sa/b/pod/1";
    const TWO: &str = "spiffe://a.example/ns/a/sa/b/pod/2";

    /// An envelope's first byte is its generation; 0 is refused.
    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);

    impl Log {
        fn say(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }
        fn said(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Receiver for Log {
        fn identity(&self, _: &Identity, _: &Trust) -> Result<(), String> {
            Ok(())
        }
        fn trust(&self, trust: &Trust) -> Result<(), String> {
            self.say(format!("trust {}", trust.roots.len()));
            Ok(())
        }
        fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String> {
            let generation = u64::from(envelope[0]);
            self.say(format!("assignment {generation} of {}", documents.len()));
            if generation == 0 { Err("no".into()) } else { Ok(generation) }
        }
        fn remove(&self, identity: &SpiffeId) {
            self.say(format!("remove {identity}"));
        }
        fn withdraw(&self, identity: &SpiffeId) {
            self.say(format!("withdraw {identity}"));
        }
        fn canaries(&self, canaries: Canaries) {
            self.say(format!("canaries {}", canaries.tripwire.len()));
        }
        fn synced(&self) {
            self.say("synced".into());
        }
    }

    fn assignment(identity: &str, generation: u8, digests: &[&str]) -> ToClient {
        let digests = digests.iter().map(ToString::to_string).collect();
        ToClient::Assignment { identity: identity.into(), envelope: Encoded(vec![generation]), digests }
    }

    fn document(digest: &str) -> ToClient {
        ToClient::Document { digest: digest.into(), envelope: Encoded(vec![1]) }
    }

    fn feed(reading: &mut Reading, store: &mut Store, log: &Log, messages: &[ToClient]) -> Result<bool, String> {
        reading.take(&messages.iter().flat_map(encode_line).collect::<Vec<_>>(), store, log)
    }

    #[test]
    fn a_document_comes_before_who_names_it_and_may_be_left_from_the_stream_before() {
        let (mut store, log) = (Store::default(), Log::default());
        let mut reading = Reading::default();
        let missing = feed(&mut reading, &mut store, &log, &[assignment(ONE, 1, &["d"])]);
        assert!(missing.unwrap_err().contains("document d was not sent before"));
        feed(&mut Reading::default(), &mut store, &log, &[document("d"), assignment(ONE, 1, &["d"])]).unwrap();
        store.collect();
        feed(&mut Reading::default(), &mut store, &log, &[assignment(ONE, 2, &["d"])]).unwrap();
        assert_eq!(log.said(), ["assignment 1 of 1", "assignment 2 of 1"]);
    }

    #[test]
    fn who_is_not_named_again_is_withdrawn_and_who_is_removed_is_removed() {
        let (mut store, log) = (Store::default(), Log::default());
        let mut reading = Reading::default();
        let first = [assignment(ONE, 1, &[]), assignment(TWO, 1, &[]), ToClient::Synced {}];
        feed(&mut reading, &mut store, &log, &first).unwrap();
        assert_eq!(log.said(), ["assignment 1 of 0", "assignment 1 of 0", "synced"]);
        let mut reading = Reading::default();
        feed(&mut reading, &mut store, &log, &[assignment(TWO, 1, &[]), ToClient::Synced {}]).unwrap();
        assert_eq!(log.said(), ["assignment 1 of 0".to_owned(), format!("withdraw {ONE}"), "synced".into()]);
        feed(&mut reading, &mut store, &log, &[ToClient::Remove { identity: TWO.into() }]).unwrap();
        assert_eq!(log.said(), [format!("remove {TWO}")]);
        assert!(store.identities().is_empty());
        let broken = [ToClient::Remove { identity: "nobody".into() }];
        assert!(feed(&mut reading, &mut store, &log, &broken).is_err(), "a malformed known message ends the stream");
    }

    #[test]
    fn each_generation_of_each_identity_is_acknowledged_once_and_a_refused_one_never() {
        let (mut store, log) = (Store::default(), Log::default());
        let mut reading = Reading::default();
        let ack = |identity: &str, generation| ToServer::Ack { generation, identity: Some(identity.into()) };
        assert_eq!(reading.acknowledge(), []);
        feed(&mut reading, &mut store, &log, &[assignment(TWO, 2, &[]), assignment(ONE, 3, &[])]).unwrap();
        assert_eq!(reading.acknowledge(), [ack(ONE, 3), ack(TWO, 2)]);
        feed(&mut reading, &mut store, &log, &[assignment(ONE, 3, &[])]).unwrap();
        assert_eq!(reading.acknowledge(), [], "a renewal");
        feed(&mut reading, &mut store, &log, &[assignment(ONE, 0, &[]), assignment(TWO, 4, &[])]).unwrap();
        assert_eq!(reading.acknowledge(), [ack(TWO, 4)], "the other was refused");
        feed(&mut reading, &mut store, &log, &[assignment(ONE, 4, &[]), assignment(ONE, 5, &[])]).unwrap();
        assert_eq!(reading.acknowledge(), [ack(ONE, 5)], "the one before is over");
        let gone = ToClient::Remove { identity: ONE.into() };
        feed(&mut reading, &mut store, &log, &[assignment(ONE, 6, &[]), gone]).unwrap();
        assert_eq!(reading.acknowledge(), []);
    }

    #[test]
    fn many_acknowledgements_go_in_parts() {
        let (mut store, log) = (Store::default(), Log::default());
        let mut reading = Reading::default();
        let pod = |n: usize| format!("spiffe://a.example/ns/a/sa/b/pod/{n}");
        let all: Vec<ToClient> = (0..=BATCH).map(|n| assignment(&pod(n), 1, &[])).collect();
        feed(&mut reading, &mut store, &log, &all).unwrap();
        assert_eq!(
            [reading.acknowledge().len(), reading.acknowledge().len(), reading.acknowledge().len()],
            [BATCH, 1, 0]
        );
    }

    #[test]
    fn a_trust_of_nobody_ends_the_stream_and_a_newer_message_does_not() {
        let (mut store, log) = (Store::default(), Log::default());
        let mut reading = Reading::default();
        let newer = b"{\"type\":\"later\",\"x\":[1]}\n";
        assert_eq!(reading.take(newer, &mut store, &log), Ok(true));
        assert_eq!(reading.take(b"{\"type\":\"pi", &mut store, &log), Ok(false));
        assert_eq!(reading.take(b"ng\"}\n", &mut store, &log), Ok(true));
        let nobody = ToClient::Trust { roots: Vec::new(), keys: Vec::new() };
        assert!(feed(&mut reading, &mut store, &log, &[nobody]).is_err());
        let many = vec![Encoded(vec![0; 32]); MAX_TRUSTED + 1];
        let many = ToClient::Trust { roots: many.clone(), keys: many };
        assert!(feed(&mut reading, &mut store, &log, &[many]).unwrap_err().contains("more than"));
        assert_eq!(log.said(), [""; 0]);
    }
}
