// SPDX-License-Identifier: Apache-2.0
// Why a TLS connection failed, in words that say which certificate is wrong and how. Included by .cc files of this
// folder only.
#pragma once

#include "daemon/wire/openssl_util.h"

namespace understudy {

// The verify callback of our contexts: keeps OpenSSL's verdict, and notes with the SSL what a person wants to know of
// it for describe_tls_failure().
int note_verification(int preverified, X509_STORE_CTX* context);

// An Error for a failed SSL_do_handshake, SSL_read or SSL_write with the given SSL_get_error() code. `peer` is what the
// other end is called: "receiver 'dr-1'" or "agent". Reads errno and empties this thread's OpenSSL error queue.
Error describe_tls_failure(SSL* ssl, int ssl_error, int error_number, const std::string& peer);

}  // namespace understudy
