// Made by `npm run types` from the OpenAPI document of the server; do not edit.

/** A problem document (RFC 9457). `code` is stable; programs go by it, people read `detail`. */
export interface ProblemAnswer {
  title: string;
  status: number;
  code: string;
  detail: string;
  field?: string | null;
  retry_after?: number | null;
  ways?: Array<"known_browser" | "recovery_codes" | "three_codes" | "webauthn"> | null;
}

/** One answer: either `code`, or `codes` (three consecutive ones; two to find a HOTP token again). */
export interface VerifyBody {
  code?: string | null;
  codes?: Array<string> | null;
  factor?: "hotp" | "recovery_codes" | "totp" | "yubico_otp" | null;
  authenticator_id?: string | null;
  purpose?: string | null;
  binding?: string | null;
  context?: ContextBody;
}

/** What the application knows of the person's side. `browser` is the value of this browser's last success. */
export interface ContextBody {
  ip?: string | null;
  user_agent?: string | null;
  browser?: string | null;
}

/** The answer was right. `receipt` is null unless a purpose or a binding was sent. `user_verified`, with a passkey only: it made sure by finger, face or PIN who its user is, and was two factors in one. `account_id`, with the answer to a challenge or a prompt only: whom it was asked for. Compare it with whom you mean to let in. `enrolled`, with a prompt only: whether the authenticator was set up in it. `reenroll_by`, after a reset: this authenticator stops then; lead the person to enroll a new one. */
export interface VerifiedAnswer {
  verified: true;
  factor: string;
  authenticator_id: string;
  receipt: string | null;
  browser: string | null;
  recovery_codes_left?: number;
  user_verified?: boolean;
  account_id?: string;
  enrolled?: boolean;
  reenroll_by?: string;
}

/** The answer was judged and is not right. */
export interface RejectedAnswer {
  verified: false;
  reason: "already_registered" | "attestation_refused" | "challenge_expired" | "challenge_mismatch" | "challenge_used" | "clock_off" | "code_already_used" | "key_refused" | "passkey_required" | "sign_count_went_back" | "unknown_credential" | "uv_required" | "wrong_code" | "wrong_credential" | "wrong_origin" | "wrong_password";
  retry_after?: number;
  clock_offset_s?: number;
}

/** What may be said of a person; what is left out stays as it is. */
export interface AccountBody {
  display_name?: string | null;
  email?: string | null;
  /** International, such as +4915112345678. */ phone?: string | null;
  groups?: Array<string> | null;
}

/** An account; never a secret. `state` is `empty`, `active`, `disabled` or `unavailable`. `epoch` is that of its receipts: when it is another one, whatever was in force before is void. */
export interface AccountAnswer {
  id: string;
  display_name: string;
  state: string;
  authenticators: Array<AuthenticatorAnswer>;
  recovery_codes_left: number;
  throttle: ThrottleAnswer;
  epoch: string;
}

/** An authenticator; never a secret. `webauthn` is there for a confirmed one of that factor. `stops_at` is there for one that counts only until then, after a reset: have a new one set up before. */
export interface AuthenticatorAnswer {
  id: string;
  factor: string;
  label: string;
  state: string;
  created_at: string;
  last_used_at: string | null;
  webauthn?: PasskeyAnswer;
  stops_at?: string;
}

/** What is known of a passkey. `synced`: there is a copy of it besides this device. `attested`: somebody whom the operator trusts stands behind its `aaguid`, which is a claim of the browser otherwise. */
export interface PasskeyAnswer {
  synced: boolean;
  transports: Array<string>;
  aaguid: string;
  attested: boolean;
}

/** How new browsers are throttled: `open`, `delayed` or `empty`. */
export interface ThrottleAnswer {
  state: string;
  retry_after: number | null;
}

/** A page of accounts in order of id; `next_cursor` is null on the last one. */
export interface AccountPageAnswer {
  accounts: Array<AccountAnswer>;
  next_cursor: string | null;
}

/** Something that happened to the account elsewhere. */
export interface EventBody {
  type: "compromised" | "disabled" | "enabled" | "password_changed" | "signed_out_everywhere";
}

/** An enrollment to begin or, with `secret` and `"confirmed": true` (scope admin), an authenticator to import. */
export interface AuthenticatorBody {
  factor: "hotp" | "totp" | "webauthn";
  label?: string | null;
  /** An authenticator that stays valid until this one is confirmed. */ replaces?: string | null;
  /** A receipt made with purpose "manage"; needed where the account has an active authenticator. */ step_up?: string | null;
  confirmed?: boolean;
  /** Base32. */ secret?: string | null;
  algorithm?: "SHA1" | "SHA256" | "SHA512" | null;
  digits?: number | null;
  /** Seconds; TOTP only. */ period?: number | null;
  /** The next counter; HOTP only. */ counter?: number | null;
}

/** A pending authenticator, with what is shown to the person under the name of its factor; or an imported one. */
export interface EnrollmentAnswer {
  id: string;
  factor: "hotp" | "totp" | "webauthn";
  state: "active" | "pending";
  expires_at?: string;
  totp?: SecretAnswer;
  hotp?: SecretAnswer;
  /** PublicKeyCredentialCreationOptionsJSON of WebAuthn Level 3. */ public_key?: { rp: { [member: string]: unknown }; user: { [member: string]: unknown }; challenge: string; pubKeyCredParams: Array<{ [member: string]: unknown }>; [member: string]: unknown; };
}

/** What the person's app needs: `secret` in Base32 without padding, `qr_png` a `data:` URI. */
export interface SecretAnswer {
  secret: string;
  uri: string;
  qr_svg: string;
  qr_png: string;
}

/** The first `code` of a pending authenticator, or the `credential` that the browser made for it. */
export interface ConfirmBody {
  code?: string | null;
  credential?: { id: string; type: "public-key"; response: { clientDataJSON: string; attestationObject: string; [member: string]: unknown; }; [member: string]: unknown; } | null;
  /** A receipt made with purpose "manage"; needed where the account has an active authenticator. */ step_up?: string | null;
}

/** The authenticator is active. Recovery codes come with the first one, and are shown this once. */
export interface ConfirmedAnswer {
  id: string;
  state?: "active";
  recovery_codes?: Array<string>;
}

/** Another label. */
export interface LabelBody {
  label: string;
}

/** A step-up, where the account has an active authenticator. */
export interface RecoveryCodesBody {
  /** A receipt made with purpose "manage"; needed where the account has an active authenticator. */ step_up?: string | null;
}

/** Ten new recovery codes, shown this once. */
export interface RecoveryCodesAnswer {
  recovery_codes: Array<string>;
}

/** A question that is about to be put to somebody. `detail` is for factors that can show it; a passkey cannot. */
export interface ChallengeBody {
  factor: "webauthn";
  purpose?: string | null;
  binding?: string | null;
  detail?: string | null;
  user_verification?: "discouraged" | "preferred" | "required";
  context?: ContextBody;
}

/** An open question, good for one right answer until it expires; `id` comes back with the answer. */
export interface ChallengeAnswer {
  id: string;
  expires_at: string;
  prompt: Prompt;
}

/** What the application puts to the person, under the name of who takes it: `public_key` is for the browser. */
export interface Prompt {
  /** PublicKeyCredentialRequestOptionsJSON of WebAuthn Level 3. */ public_key: { challenge: string; rpId: string; [member: string]: unknown; };
}

/** The answer to a challenge, by its id, with the binding that it was made for. */
export interface ChallengeAnswerBody {
  challenge: string;
  /** AuthenticationResponseJSON of WebAuthn Level 3. */ credential: { id: string; type: "public-key"; response: { clientDataJSON: string; authenticatorData: string; signature: string; [member: string]: unknown; }; [member: string]: unknown; };
  binding?: string | null;
  context?: ContextBody;
}

/** A receipt with the purpose and the binding that it must have been made for. */
export interface RedeemBody {
  receipt: string;
  purpose?: string | null;
  binding?: string | null;
}

/** What the receipt stated; it is used up now. */
export interface RedeemedAnswer {
  account_id: string;
  amr: Array<string>;
  acr: string;
  auth_time: string;
  purpose: string | null;
  binding: string | null;
}

/** A person to be asked on Twofold's own pages, by her browser. `return_to` is exactly one of the addresses that the application was registered with; `code_challenge` (RFC 7636) and `binding` belong to one session of that browser. */
export interface PromptBody {
  account: string;
  return_to: string;
  binding: string;
  /** base64url(SHA-256(code_verifier)), without padding. */ code_challenge: string;
  code_challenge_method?: "S256";
  /** Comes back with the answer as it is. */ state?: string | null;
  purpose?: string | null;
  /** Whoever has no second factor may set one up (needs the scope enroll, too). */ enroll?: boolean;
}

/** Send the person's browser to `url`, before `expires_at`. The first browser that opens it gets the prompt. */
export interface PromptAnswer {
  url: string;
  expires_at: string;
}

/** The code with which somebody came back from a prompt, with what only this application and that browser's session have. */
export interface RedeemPromptBody {
  code: string;
  code_verifier: string;
  binding: string;
}

/** What each call takes and answers. */
export interface Operations {
  verify: { body: VerifyBody; query: {  }; answer: VerifiedAnswer | RejectedAnswer };
  put_account: { body: AccountBody; query: {  }; answer: AccountAnswer };
  get_account: { body: undefined; query: {  }; answer: AccountAnswer };
  delete_account: { body: undefined; query: {  }; answer: undefined };
  list_accounts: { body: undefined; query: { cursor?: string; factor?: "totp" | "hotp" | "webauthn" | "yubico_otp" | "recovery_codes"; state?: "empty" | "active" | "disabled" | "unavailable" }; answer: AccountPageAnswer };
  record_event: { body: EventBody; query: {  }; answer: undefined };
  add_authenticator: { body: AuthenticatorBody; query: {  }; answer: EnrollmentAnswer };
  confirm_authenticator: { body: ConfirmBody; query: {  }; answer: ConfirmedAnswer };
  rename_authenticator: { body: LabelBody; query: {  }; answer: AuthenticatorAnswer };
  delete_authenticator: { body: undefined; query: {  }; answer: undefined };
  renew_recovery_codes: { body: RecoveryCodesBody; query: {  }; answer: RecoveryCodesAnswer };
  open_challenge: { body: ChallengeBody; query: {  }; answer: ChallengeAnswer };
  answer_challenge: { body: ChallengeAnswerBody; query: {  }; answer: VerifiedAnswer | RejectedAnswer };
  redeem_receipt: { body: RedeemBody; query: {  }; answer: RedeemedAnswer };
  open_prompt: { body: PromptBody; query: {  }; answer: PromptAnswer };
  redeem_prompt: { body: RedeemPromptBody; query: {  }; answer: VerifiedAnswer };
}

/** Where each call goes. */
export const OPERATIONS = {
  verify: ["POST", "/api/v1/accounts/{id}/verify"],
  put_account: ["PUT", "/api/v1/accounts/{id}"],
  get_account: ["GET", "/api/v1/accounts/{id}"],
  delete_account: ["DELETE", "/api/v1/accounts/{id}"],
  list_accounts: ["GET", "/api/v1/accounts"],
  record_event: ["POST", "/api/v1/accounts/{id}/events"],
  add_authenticator: ["POST", "/api/v1/accounts/{id}/authenticators"],
  confirm_authenticator: ["POST", "/api/v1/accounts/{id}/authenticators/{aid}/confirm"],
  rename_authenticator: ["PATCH", "/api/v1/accounts/{id}/authenticators/{aid}"],
  delete_authenticator: ["DELETE", "/api/v1/accounts/{id}/authenticators/{aid}"],
  renew_recovery_codes: ["POST", "/api/v1/accounts/{id}/recovery-codes"],
  open_challenge: ["POST", "/api/v1/accounts/{id}/challenges"],
  answer_challenge: ["POST", "/api/v1/challenges/answer"],
  redeem_receipt: ["POST", "/api/v1/receipts/redeem"],
  open_prompt: ["POST", "/api/v1/prompts"],
  redeem_prompt: ["POST", "/api/v1/prompts/redeem"],
} as const satisfies { [name in keyof Operations]: readonly [string, string] };
