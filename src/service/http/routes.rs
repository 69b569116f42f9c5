use actix_web::{
    FromRequest, Handler, HttpRequest, Responder, Route,
    http::Method,
    web::{self, ServiceConfig},
};
use utoipa::{
    __dev::SchemaReferences,
    Path,
    openapi::{ComponentsBuilder, HttpMethod, Paths, RefOr, Schema},
};

use super::Problem;

/// Routes together with their descriptions: what is served is described, and the other way round, since both are made from
/// this one list.
///
/// A handler with `#[utoipa::path(..)]` is added by the name that the attribute makes of its own:
/// `routes.add::<__path_list, _, _>(list)`.
#[derive(Default)]
pub(crate) struct Routes {
    served: Vec<Served>,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// What is served at one path.
struct Served {
    path: String,
    routes: Vec<(Method, Route)>,
}

impl Routes {
    /// Adds a handler at the path and the method of its description.
    pub(crate) fn add<P, F, Args>(&mut self, handler: F) -> &mut Self
    where
        P: Path + SchemaReferences,
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let path = P::path();
        let methods = P::methods();
        P::schemas(&mut self.schemas);
        let index = match self.served.iter().position(|served| served.path == path) {
            Some(index) => index,
            None => {
                self.served.push(Served { path: path.clone(), routes: Vec::new() });
                self.served.len() - 1
            }
        };
        for method in &methods {
            let method = method_of(method);
            let route = web::method(method.clone()).to(handler.clone());
            self.served[index].routes.push((method, route));
        }
        self.paths.add_path_operation(path, methods, P::operation());
        self
    }

    /// Serves them. A path answers other methods with those that it knows.
    pub(crate) fn serve(self, config: &mut ServiceConfig) {
        for Served { path, routes } in self.served {
            let allow = routes.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ");
            let mut resource = web::resource(path);
            for (_, route) in routes {
                resource = resource.route(route);
            }
            let other = move |request: HttpRequest| {
                let problem = Problem::method(request.method().as_str(), allow.clone());
                async move { Err::<&'static str, _>(problem) }
            };
            config.service(resource.default_service(web::to(other)));
        }
    }

    /// Their descriptions, and the schemas that these name.
    pub(crate) fn describe(self) -> (Paths, ComponentsBuilder) {
        (self.paths, ComponentsBuilder::new().schemas_from_iter(self.schemas))
    }
}

fn method_of(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Put => Method::PUT,
        HttpMethod::Post => Method::POST,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
        _ => Method::GET,
    }
}
