//! What a master tells an orchestrator.

use dcos_proto::mesos::{Offer, TaskStatus};
use dcos_proto::scheduler::{Event, event};

/// What of a master's events there is something to do about, for who answers offers at once.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The subscription stands.
    Subscribed(Box<event::Subscribed>),
    /// Offers came.
    Offers(Vec<Offer>),
    /// A task is told of.
    Status(Box<TaskStatus>),
    /// An executor says something.
    Message(event::Message),
    /// The master wants nothing of the framework any more, for this reason.
    Refused(String),
}

impl News {
    /// What an event says; `None` if nothing follows from it: offers are answered at once, so that none is left to rescind;
    /// a lost agent's tasks are told of one by one; inverse offers and operations are nobody's here.
    pub fn of(event: Event) -> Option<Self> {
        use event::Type;
        match event.r#type() {
            Type::Subscribed => event.subscribed.map(Box::new).map(Self::Subscribed),
            Type::Offers => {
                let offers = event.offers.map(|offers| offers.offers);
                Some(Self::Offers(offers.unwrap_or_default()))
            }
            Type::Update => {
                let status = event.update.map(|update| Box::new(update.status));
                status.map(Self::Status)
            }
            Type::Message => event.message.map(Self::Message),
            Type::Error => {
                let reason = event.error.map(|error| error.message);
                Some(Self::Refused(reason.unwrap_or_default()))
            }
            Type::Unknown
            | Type::InverseOffers
            | Type::Rescind
            | Type::RescindInverseOffer
            | Type::UpdateOperationStatus
            | Type::Failure
            | Type::Heartbeat => None,
        }
    }
}
