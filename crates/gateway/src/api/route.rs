//! An entry of the list of routes: a path, its handlers, and their descriptions for the OpenAPI document.

use std::borrow::Cow;
use std::sync::Arc;

use axum::handler::Handler;
use axum::middleware::from_fn;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::openapi::{Describe, Operation};
use super::query;
use crate::gateway::Gateway;

/// A path with its methods.
pub struct Route {
    pub path: Cow<'static, str>,
    pub access: Access,
    /// Whether the call is about a channel's session, so that the owner must answer it.
    pub on_owner: bool,
    pub methods: MethodRouter<Arc<Gateway>>,
    /// Method names in lower case, as the document has them.
    pub described: Vec<(&'static str, Describe)>,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Callers with a key.
    Keyed,
    /// Every caller.
    Open,
    /// Every caller, unless the setting `docs` is off. It is no part of the API, and not in its document.
    Page,
}

/// A path for callers with a key.
pub fn keyed(path: impl Into<Cow<'static, str>>) -> Route {
    let path = path.into();
    Route { path, access: Access::Keyed, on_owner: false, methods: MethodRouter::new(), described: Vec::new() }
}

/// A path for every caller.
pub fn open(path: &'static str) -> Route {
    Route { access: Access::Open, ..keyed(path) }
}

/// A page about the API.
pub fn page<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { access: Access::Page, methods: axum::routing::get(handler), ..keyed(path) }
}

impl Route {
    /// Calls are answered by the owner of the channel, if a phone links the channel.
    pub fn on_owner(self) -> Self {
        Self { on_owner: true, ..self }
    }

    /// `GET`, and with it `HEAD`.
    pub fn get<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::GET, "get"), Parameters::None, handler, describe)
    }

    /// `GET` with parameters in the query string, which the handler checks.
    pub fn list<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::GET, "get"), Parameters::OfHandler, handler, describe)
    }

    /// `POST`.
    pub fn post<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::POST, "post"), Parameters::None, handler, describe)
    }

    /// `POST` that sends. It ignores parameters in the query string, because callers that worked so far may have some.
    pub fn send<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::POST, "post"), Parameters::Ignored, handler, describe)
    }

    /// `PUT`.
    pub fn put<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::PUT, "put"), Parameters::None, handler, describe)
    }

    /// `PATCH`.
    pub fn patch<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::PATCH, "patch"), Parameters::None, handler, describe)
    }

    /// `DELETE`.
    pub fn delete<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::DELETE, "delete"), Parameters::None, handler, describe)
    }

    /// `DELETE` with parameters in the query string, which the handler checks.
    pub fn delete_with<H: Handler<T, Arc<Gateway>>, T: 'static>(
        self,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self {
        self.on((MethodFilter::DELETE, "delete"), Parameters::OfHandler, handler, describe)
    }

    /// The answer to every other method, before the caller's key is read.
    pub fn otherwise<H: Handler<T, Arc<Gateway>>, T: 'static>(self, handler: H) -> Self {
        Self { methods: self.methods.fallback(handler), ..self }
    }

    fn on<H, T>(
        mut self,
        (filter, name): (MethodFilter, &'static str),
        parameters: Parameters,
        handler: H,
        describe: impl for<'a> Fn(Operation<'a>) -> Operation<'a> + 'static,
    ) -> Self
    where
        H: Handler<T, Arc<Gateway>>,
        T: 'static,
    {
        let method = on(filter, handler);
        // Networks and balancers add parameters to calls without a key.
        let refuses = self.access == Access::Keyed && parameters == Parameters::None;
        let method = if refuses { method.route_layer(from_fn(query::refuse_all)) } else { method };
        self.methods = self.methods.merge(method);
        self.described.push((name, Box::new(describe)));
        self
    }
}

/// The parameters in the query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameters {
    /// The call has none, and refuses them.
    None,
    /// The handler checks them.
    OfHandler,
    Ignored,
}
