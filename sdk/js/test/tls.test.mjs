// rediss:// addresses: the certificate is checked, and what is said is encrypted.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { createServer } from "node:tls";

import { Flux } from "../src/flux.js";
import { fakeServer } from "./fake.mjs";

// Made for these tests, for localhost; it protects nothing.
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqguomYGtuydhLd+z
adNy47SFrUCQxQs7E2GKw/v/1IahRANCAAQbnPQcCsNGo5IEKTiI8My0zIsbc5in
IwUp8wb3E0+8R1kjtZaOqjovQxHmrV90UlM31oVi0D8M8GE/LA8uPcPe
-----END PRIVATE KEY-----`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUVu93b94MHrWtoffbZvuFMQxX7Z0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTA3MDQxNFoYDzIxMjYxMDI4
MDcwNDE0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQbnPQcCsNGo5IEKTiI8My0zIsbc5inIwUp8wb3E0+8R1kjtZaOqjov
QxHmrV90UlM31oVi0D8M8GE/LA8uPcPeo28wbTAdBgNVHQ4EFgQUWItM+TPkKard
GZpRlWKmit90qiMwHwYDVR0jBBgwFoAUWItM+TPkKardGZpRlWKmit90qiMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgNRjIzTwx4YBQulv6GWaluPR05j++12dQH4ouVvH5OtoCIQDm
+SMOas0zBQGNS/TYBHPNWsHgdscEH0Lt9vICxLD4dQ==
-----END CERTIFICATE-----`;

test("a peer trusts the server whose certificate it was told to trust, and no other", async (t) => {
  const server = await fakeServer(() => undefined);
  const front = createServer({ key: KEY, cert: CERTIFICATE }, (socket) => {
    const back = connect(Number(new URL(server.url).port), "127.0.0.1");
    socket.pipe(back).pipe(socket);
    for (const end of [socket, back]) end.on("error", () => {});
  }).listen(0, "127.0.0.1");
  await once(front, "listening");
  t.after(() => (front.close(), server.close()));
  for (const host of ["localhost", "127.0.0.1"]) {
    const url = `rediss://${host}:${front.address().port}`;
    const flux = new Flux({ url, tls: { ca: CERTIFICATE } });
    await flux.start();
    await flux.stop();
    await assert.rejects(new Flux({ url, connectTimeout: 2_000 }).start(), { code: "TIMEOUT", message: /certificate/ });
  }
});
