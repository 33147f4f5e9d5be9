//! The admin listener reads, and tells nothing that the agent must not know.

use clawlock_proxy::body::GateBody;
use http::{Request, Response};
use tokio::net::TcpStream;

use crate::client::{Answer, get, http1_sender};
use crate::origin::{Origin, full};
use crate::world::{CANARY, HOST, TestCa, World, loopback, usual, vendor};

async fn ask(world: &World, mut request: Request<GateBody>) -> Answer {
    let tcp = TcpStream::connect(world.admin).await.unwrap();
    request.headers_mut().insert("host", world.admin.to_string().parse().unwrap());
    Answer::of(http1_sender(tcp).await.send_request(request).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    assert_eq!(ask(&world, get("/healthz")).await.status, 200);
    assert_eq!(ask(&world, get("/readyz")).await.status, 200);
    world.https(HOST, origin.port(), get("/secret-path")).await;
    assert_eq!(world.connect("evil.test:443").await.0, 403);
    let metrics = ask(&world, get("/metrics")).await.text();
    assert!(metrics.contains(r#"clawlock_decisions_total{gate="gateway",verdict="allow",code=""} 1"#), "{metrics}");
    let unknown = r#"clawlock_decisions_total{gate="agent",verdict="deny",code="UnknownUpstream"} 1"#;
    assert!(metrics.contains(unknown), "{metrics}");
    for unbounded in ["secret-path", "evil", HOST, CANARY, "spiffe"] {
        assert!(!metrics.contains(unbounded), "{unbounded}");
    }
    world.agent_table.remove(&world.identity);
    let unready = ask(&world, get("/readyz")).await;
    assert_eq!((unready.status.as_u16(), unready.text().as_str()), (503, "not ready: no policy in force\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_needs_the_gateway() {
    let ca = TestCa::new();
    let world = World::start(usual(vendor(1, &ca.pem))).await;
    world.stop_gateway().await;
    let unready = ask(&world, get("/readyz")).await;
    assert_eq!((unready.status.as_u16(), unready.text().as_str()), (503, "not ready: gateway not reachable\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn class21_nothing_can_be_changed_here() {
    let ca = TestCa::new();
    let world = World::start(usual(vendor(1, &ca.pem))).await;
    for path in ["/", "/quitquitquit", "/debug/pprof", "/config", "/v1/decide"] {
        assert_eq!(ask(&world, get(path)).await.status, 404, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        for method in ["POST", "PUT", "DELETE"] {
            let request = Request::builder().method(method).uri(path).body(GateBody::full("x")).unwrap();
            assert_eq!(ask(&world, request).await.status, 405, "{method} {path}");
        }
    }

    for (name, value) in [("origin", "http://evil.test"), ("sec-fetch-site", "cross-site")] {
        let mut page = get("/metrics");
        page.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(ask(&world, page).await.status, 403, "class14 {name}");
    }
}
