//! Records on the wire: what is written is read as it was, golden bytes of version 1, and what is broken does no harm.

use bytes::Bytes;
use hooklane_types::record::{
    ANSWER_BYTES_MAX, Attempt, Batch, Decision, DeliveryKey, EventRef, Record, Settled, Trigger, decode,
};
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, DeadReason, EndpointId, EnvelopeError, Event, EventId,
    EventType, FailureKind, Internal, UnixMillis,
};
use proptest::prelude::*;

fn delivery() -> DeliveryKey {
    DeliveryKey {
        event: EventRef {
            application: ApplicationId::parse("acme").unwrap(),
            id: EventId::parse("msg_01").unwrap(),
            accepted_at: UnixMillis(1),
        },
        endpoint: EndpointId::parse("ep_1").unwrap(),
        target: 2,
        run: 3,
    }
}

fn attempt() -> Attempt {
    Attempt {
        id: AttemptId::parse("atmpt_1").unwrap(),
        delivery: delivery(),
        at: UnixMillis(2),
        duration_ms: 300,
        outcome: AttemptOutcome::Status {
            code: 503,
            retry_after_ms: Some(1000),
        },
        url: "https://a.test/b".to_owned(),
        answer: Bytes::from_static(b"busy\0"),
        trigger: Trigger::Manual,
        decision: Decision::Again(UnixMillis(64)),
    }
}

fn event() -> Event {
    Event {
        id: EventId::parse("msg_01").unwrap(),
        producer_id: None,
        application: ApplicationId::parse("acme").unwrap(),
        event_type: EventType::parse("invoice.paid").unwrap(),
        channels: vec![],
        accepted_at: UnixMillis(1),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: vec![],
        payload: Bytes::from_static(b"{}"),
    }
}

fn records() -> Vec<Record> {
    let settled = Settled {
        delivery: delivery(),
        at: UnixMillis(5),
        reason: DeadReason::Expired,
    };
    let failed = Attempt {
        outcome: AttemptOutcome::Failed(FailureKind::Timeout),
        decision: Decision::Dead(DeadReason::Exhausted),
        answer: Bytes::new(),
        trigger: Trigger::Schedule,
        ..attempt()
    };
    let delivered = Attempt {
        decision: Decision::Delivered,
        ..attempt()
    };
    vec![
        Record::Event(event()),
        Record::Attempt(attempt()),
        Record::Attempt(failed),
        Record::Attempt(delivered),
        Record::Settled(settled),
    ]
}

fn batch(records: &[Record]) -> Bytes {
    let mut batch = Batch::default();
    records.iter().for_each(|record| batch.push(record.encode()));
    batch.encode()
}

#[test]
fn what_is_written_is_read_as_it_was_alone_and_in_batches() {
    for record in records() {
        assert_eq!(decode(record.encode()), Ok(vec![record.clone()]));
        assert_eq!(decode(batch(std::slice::from_ref(&record))), Ok(vec![record]));
    }
    assert_eq!(decode(batch(&records())), Ok(records()));
    assert_eq!(decode(batch(&[])), Ok(vec![]));
}

#[test]
fn a_record_of_an_event_is_its_envelope() {
    // Goal: ingest writes the same bytes twice, and copies none.
    assert_eq!(Record::Event(event()).encode(), Internal::Event(event()).encode());
    let envelope = Internal::Event(event()).encode();
    let mut batch = Batch::default();
    batch.push(envelope.clone());
    assert_eq!(batch.encode().as_ptr(), envelope.as_ptr());
}

#[test]
fn of_an_answer_only_the_first_part_is_written() {
    let long = Attempt {
        answer: vec![b'x'; ANSWER_BYTES_MAX + 1].into(),
        ..attempt()
    };
    let read = decode(Record::Attempt(long).encode()).unwrap();
    let [Record::Attempt(read)] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(read.answer.len(), ANSWER_BYTES_MAX);
}

/// Computed by hand from postcard's specification: variant, texts with their lengths, varints (times in zigzag).
#[test]
fn the_bytes_of_version_1_are_pinned() {
    let head = concat!(
        "00",               // attempt
        "0761746d70745f31", // atmpt_1
        "0461636d65",       // acme
        "066d73675f3031",   // msg_01
        "02",               // accepted at 1
        "0465705f31",       // ep_1
        "02",
        "03",   // target, run
        "04",   // at 2
        "ac02", // 300 ms
        "00",
        "f703",
        "01",
        "e807",                               // status 503, retry after 1000
        "1068747470733a2f2f612e746573742f62", // the URL
        "01",                                 // manual
        "01",
        "8001", // again at 64
    );
    let length = format!("{:08x}", head.len() / 2);
    let alone = format!("485201{length}{head}6275737900");
    assert_eq!(hex::encode(Record::Attempt(attempt()).encode()), alone);
    let item = format!("{:08x}{alone}", alone.len() / 2);
    let two = [Record::Attempt(attempt()), Record::Attempt(attempt())];
    assert_eq!(hex::encode(batch(&two)), format!("484201{item}{item}"));
}

#[test]
fn what_is_newer_is_told_apart_from_what_is_broken() {
    for record in [records().remove(1).encode(), batch(&records())] {
        let mut newer = record.to_vec();
        newer[2] = 2;
        assert_eq!(decode(newer.into()), Err(EnvelopeError::Newer { version: 2 }));
    }
    for broken in [
        &b""[..],
        b"HB",
        b"HX1234567",
        b"HB\x01\0\0\0\x09ab",
        b"HB\x01\0\0",
        b"HB\0",
    ] {
        let read = decode(Bytes::copy_from_slice(broken));
        assert!(
            matches!(read, Err(EnvelopeError::NotOurs | EnvelopeError::Broken(_))),
            "{read:?}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_is_read_does_no_harm(at in 0usize..400, value in any::<u8>(), cut in 0usize..400) {
        let mut bytes = batch(&records()).to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        let _ = decode(bytes.into());
    }
}
