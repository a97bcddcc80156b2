//! Operational webhooks about endpoints: what is made, changed and deleted here is told to the operational application, as an event of it.

use hooklane_store::catalog::{Document, Kind};
use hooklane_types::operational::{EndpointNews, News};
use hooklane_types::{ApplicationId, EndpointId, Event};

use crate::state::Api;

impl Api {
    /// Tells it. The change has been made already, so whatever is wrong is logged, and the change is answered all the same.
    pub(crate) async fn tell(
        &self,
        news: fn(EndpointNews) -> News,
        application: &Document,
        endpoint: &Document,
    ) {
        let Some(event) = self.news(news, application, endpoint).await else {
            return;
        };
        if let Err(error) = self.outbox.accept(event).await {
            tracing::warn!(endpoint.id = endpoint.address.id, %error, "the operational application was not told of a change of the endpoint");
        }
    }

    async fn news(
        &self,
        news: fn(EndpointNews) -> News,
        application: &Document,
        endpoint: &Document,
    ) -> Option<Event> {
        let name = self.operational_application.as_ref()?;
        let found = self
            .catalog
            .get(Kind::Application, &self.organisation, name.as_str())
            .await;
        // One that stands in the settings file has no document.
        let to = match found {
            Ok(Some(document)) => ApplicationId::parse(&document.address.id).ok()?,
            Ok(None) => name.clone(),
            Err(error) => {
                tracing::warn!(%error, "the operational application cannot be looked up");
                return None;
            }
        };
        if to.as_str() == application.address.id {
            return None;
        }
        let about = EndpointNews {
            app_id: ApplicationId::parse(&application.address.id).ok()?,
            app_uid: application.uid.clone(),
            endpoint_id: EndpointId::parse(&endpoint.address.id).ok()?,
            endpoint_uid: endpoint.uid.clone(),
            fail_since: None,
        };
        let key = format!("{}.{}", endpoint.address.id, endpoint.revision.0);
        Some(news(about).event(&to, &key, self.now()))
    }
}
