// SPDX-License-Identifier: Apache-2.0
// TLS between two streams in one thread: what works, what is refused, and what each side is told about it.
#include <fcntl.h>
#include <openssl/pem.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <random>

#include "daemon/base/atomic_file.h"
#include "daemon/base/unique_fd.h"
#include "daemon/wire/openssl_util.h"
#include "daemon/wire/pki.h"
#include "daemon/wire/tls_stream.h"
#include "tests/unit/temporary_directory.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

struct Authority {
  explicit Authority(const std::string& path) : directory(path) { REQUIRE(pki_init(directory).ok()); }
  TlsFiles issue(WireRole role, const std::string& name) const {
    REQUIRE(pki_issue(directory, role, name, directory).ok());
    return {pki_authority_certificate_path(directory), pki_certificate_path(directory, name),
            pki_key_path(directory, name)};
  }
  // Signs the certificate again with other dates, in seconds from now.
  void redate(const TlsFiles& files, long from_seconds, long to_seconds) const {
    auto certificate = parse_certificate_pem(*read_file(files.certificate, kPemBytesMax), files.certificate);
    auto key = parse_key_pem(*read_file(pki_authority_key_path(directory), kPemBytesMax), "ca.key");
    REQUIRE(certificate.ok());
    REQUIRE(key.ok());
    X509_gmtime_adj(X509_getm_notBefore(certificate->get()), from_seconds);
    X509_gmtime_adj(X509_getm_notAfter(certificate->get()), to_seconds);
    REQUIRE(X509_sign(certificate->get(), key->get(), EVP_sha256()) != 0);
    const BioPtr bio(BIO_new(BIO_s_mem()));
    REQUIRE(PEM_write_bio_X509(bio.get(), certificate->get()) == 1);
    char* data = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &data);
    REQUIRE(
        write_file_atomically(files.certificate, std::string_view(data, static_cast<std::size_t>(length)), 0644).ok());
  }
  std::string directory;
};

struct Pair {
  Pair(const TlsFiles& client_files, const TlsFiles& server_files) {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    client_fd.reset(fds[0]);
    server_fd.reset(fds[1]);
    auto client_context = TlsContext::load(client_files, TlsSide::kClient);
    auto server_context = TlsContext::load(server_files, TlsSide::kServer);
    REQUIRE_MESSAGE(client_context.ok(), client_context.error().message());
    REQUIRE_MESSAGE(server_context.ok(), server_context.error().message());
    client = std::move(TlsStream::make(*client_context, client_fd.get(), "receiver 'dr-1'")).value();
    server = std::move(TlsStream::make(*server_context, server_fd.get(), "agent at here")).value();
  }

  // Until neither side can go on.
  void handshake() {
    for (int turn = 0; turn < 20; ++turn) {
      if (client_state != TlsState::kOk && client_state != TlsState::kFailed) client_state = client->handshake();
      (void)client->flush();
      if (server_state != TlsState::kOk && server_state != TlsState::kFailed) server_state = server->handshake();
      (void)server->flush();
    }
  }
  // What the client hears when it reads.
  TlsResult client_read() {
    std::byte buffer[64];
    return client->read(buffer);
  }

  UniqueFd client_fd;
  UniqueFd server_fd;
  std::unique_ptr<TlsStream> client;
  std::unique_ptr<TlsStream> server;
  TlsState client_state = TlsState::kWantRead;
  TlsState server_state = TlsState::kWantRead;
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("both ends learn who the other is") {
  TemporaryDirectory directory;
  const Authority authority(directory.file("pki"));
  Pair pair(authority.issue(WireRole::kAgent, "web-1"), authority.issue(WireRole::kReceiver, "dr-1"));
  pair.handshake();
  REQUIRE(pair.client_state == TlsState::kOk);
  REQUIRE(pair.server_state == TlsState::kOk);
  auto server_sees = pair.server->peer();
  auto client_sees = pair.client->peer();
  REQUIRE(server_sees.ok());
  REQUIRE(client_sees.ok());
  CHECK(server_sees->identity == WireIdentity{WireRole::kAgent, "web-1"});
  CHECK(client_sees->identity == WireIdentity{WireRole::kReceiver, "dr-1"});
  CHECK(server_sees->certificate_sha256 == pki_show(pki_certificate_path(authority.directory, "web-1"))->sha256);
}

TEST_CASE("many megabytes go through unchanged, in pieces of any size") {
  TemporaryDirectory directory;
  const Authority authority(directory.file("pki"));
  Pair pair(authority.issue(WireRole::kAgent, "web-1"), authority.issue(WireRole::kReceiver, "dr-1"));
  pair.handshake();
  std::vector<std::byte> sent(12'345'678);
  std::mt19937_64 random(7);
  for (std::byte& byte : sent) byte = static_cast<std::byte>(random());
  std::vector<std::byte> got(sent.size());
  std::size_t out = 0;
  std::size_t in = 0;
  while (in < sent.size()) {
    const std::size_t piece = std::min<std::size_t>(1 + random() % 300'000, sent.size() - out);
    const TlsResult written = pair.client->write(std::span(sent).subspan(out, piece));
    REQUIRE((written.state == TlsState::kOk || written.state == TlsState::kWantWrite));
    out += written.bytes;
    if (out == sent.size()) REQUIRE(pair.client->flush() != TlsState::kFailed);
    const TlsResult read =
        pair.server->read(std::span(got).subspan(in, std::min<std::size_t>(1 + random() % 300'000, got.size() - in)));
    REQUIRE((read.state == TlsState::kOk || read.state == TlsState::kWantRead));
    in += read.bytes;
  }
  CHECK(got == sent);
  pair.client->shutdown();
  (void)pair.client->flush();
  std::byte more[8];
  CHECK(pair.server->read(more).state == TlsState::kClosed);
}

TEST_CASE("an agent with a certificate of another authority is told so, and the receiver says so") {
  TemporaryDirectory directory;
  const Authority authority(directory.file("pki"));
  const Authority stranger(directory.file("stranger"));
  TlsFiles client = stranger.issue(WireRole::kAgent, "web-1");
  client.authority = pki_authority_certificate_path(authority.directory);
  Pair pair(client, authority.issue(WireRole::kReceiver, "dr-1"));
  pair.handshake();
  REQUIRE(pair.server_state == TlsState::kFailed);
  CHECK(pair.server->error().kind() == ErrorKind::kRefused);
  CHECK_MESSAGE(
      contains(
          pair.server->error().message(),
          "refused the certificate of agent at here: certificate 'CN=web-1' is signed by another authority than ours"),
      pair.server->error().message());
  // In TLS 1.3 the client is done before the server has looked: it hears with its first read.
  REQUIRE(pair.client_state == TlsState::kOk);
  REQUIRE(pair.client_read().state == TlsState::kFailed);
  CHECK(pair.client->error().kind() == ErrorKind::kRefused);
  CHECK_MESSAGE(contains(pair.client->error().message(), "receiver 'dr-1' refused our certificate"),
                pair.client->error().message());
  CHECK_MESSAGE(contains(pair.client->error().message(), "authority"), pair.client->error().message());
}

TEST_CASE("a receiver with a certificate of another authority is refused, and hears it") {
  TemporaryDirectory directory;
  const Authority authority(directory.file("pki"));
  const Authority stranger(directory.file("stranger"));
  Pair pair(authority.issue(WireRole::kAgent, "web-1"), stranger.issue(WireRole::kReceiver, "dr-1"));
  pair.handshake();
  REQUIRE(pair.client_state == TlsState::kFailed);
  CHECK_MESSAGE(contains(pair.client->error().message(), "is signed by another authority than ours"),
                pair.client->error().message());
  REQUIRE(pair.server_state == TlsState::kFailed);
  CHECK_MESSAGE(contains(pair.server->error().message(), "agent at here refused our certificate"),
                pair.server->error().message());
}

TEST_CASE("expired and not yet valid certificates are refused with their dates") {
  TemporaryDirectory directory;
  const Authority authority(directory.file("pki"));
  const TlsFiles client = authority.issue(WireRole::kAgent, "web-1");
  const TlsFiles server = authority.issue(WireRole::kReceiver, "dr-1");
  SUBCASE("agent's expired") {
    authority.redate(client, -20 * 86400, -10 * 86400);
    Pair pair(client, server);
    pair.handshake();
    REQUIRE(pair.server_state == TlsState::kFailed);
    CHECK_MESSAGE(contains(pair.server->error().message(), "certificate 'CN=web-1' expired on 20"),
                  pair.server->error().message());
    REQUIRE(pair.client_read().state == TlsState::kFailed);
    CHECK_MESSAGE(contains(pair.client->error().message(), "our certificate has expired"),
                  pair.client->error().message());
  }
  SUBCASE("receiver's expired") {
    authority.redate(server, -20 * 86400, -10 * 86400);
    Pair pair(client, server);
    pair.handshake();
    REQUIRE(pair.client_state == TlsState::kFailed);
    CHECK_MESSAGE(contains(pair.client->error().message(), "certificate 'CN=dr-1' expired on 20"),
                  pair.client->error().message());
    REQUIRE(pair.server_state == TlsState::kFailed);
    CHECK_MESSAGE(contains(pair.server->error().message(), "our certificate has expired"),
                  pair.server->error().message());
  }
  SUBCASE("agent's not yet valid") {
    authority.redate(client, 10 * 86400, 20 * 86400);
    Pair pair(client, server);
    pair.handshake();
    REQUIRE(pair.server_state == TlsState::kFailed);
    CHECK_MESSAGE(contains(pair.server->error().message(), "is not valid before 20"), pair.server->error().message());
    REQUIRE(pair.client_read().state == TlsState::kFailed);
    CHECK_MESSAGE(contains(pair.client->error().message(), "refused our certificate"), pair.client->error().message());
  }
}

TEST_CASE("who does not speak our TLS is told apart") {
  TemporaryDirectory directory;
  const Authority authority(directory.file("pki"));
  const TlsFiles client = authority.issue(WireRole::kAgent, "web-1");
  const TlsFiles server = authority.issue(WireRole::kReceiver, "dr-1");
  SUBCASE("plain text") {
    Pair pair(client, server);
    constexpr std::string_view kRequest = "GET / HTTP/1.0\r\n\r\n";
    REQUIRE(::send(pair.client_fd.get(), kRequest.data(), kRequest.size(), 0) > 0);
    REQUIRE(pair.server->handshake() == TlsState::kFailed);
    CHECK_MESSAGE(contains(pair.server->error().message(), "does not speak TLS"), pair.server->error().message());
  }
  SUBCASE("closed at once") {
    Pair pair(client, server);
    pair.client.reset();
    pair.client_fd.reset();
    REQUIRE(pair.server->handshake() == TlsState::kFailed);
    CHECK(pair.server->error().kind() == ErrorKind::kClosed);
  }
  SUBCASE("a client without a certificate, and one with TLS 1.2 only") {
    for (const bool old : {false, true}) {
      Pair pair(client, server);
      const SslContextPtr context(SSL_CTX_new(TLS_client_method()));
      if (old) SSL_CTX_set_max_proto_version(context.get(), TLS1_2_VERSION);
      const SslPtr ssl(SSL_new(context.get()));
      SSL_set_fd(ssl.get(), pair.client_fd.get());
      for (int turn = 0; turn < 5 && pair.server_state != TlsState::kFailed; ++turn) {
        ERR_clear_error();
        (void)SSL_connect(ssl.get());
        pair.server_state = pair.server->handshake();
      }
      REQUIRE(pair.server_state == TlsState::kFailed);
      CHECK_MESSAGE(contains(pair.server->error().message(), old ? "does not speak TLS 1.3" : "sent no certificate"),
                    pair.server->error().message());
    }
  }
}

TEST_CASE("a certificate that belongs to something else has no identity here") {
  TemporaryDirectory directory;
  const Authority authority(directory.file("pki"));
  auto identity = certificate_identity(
      parse_certificate_pem(*read_file(pki_authority_certificate_path(authority.directory), kPemBytesMax), "ca.crt")
          ->get());
  REQUIRE_FALSE(identity.ok());
  CHECK(contains(identity.error().message(), "carries no understudy identity"));
}
