"""The kinds of proof, one file each. A factor is added by its module and one line here."""

from __future__ import annotations

from twofold.core.factor import Factors
from twofold.factors.hotp import Hotp
from twofold.factors.password import Password
from twofold.factors.recovery_codes import RecoveryCodes
from twofold.factors.totp import Totp
from twofold.factors.webauthn import Webauthn
from twofold.factors.yubico_otp import YubicoOtp

FACTORS: Factors = {
    factor.name: factor for factor in (Password(), Totp(), Hotp(), RecoveryCodes(), Webauthn(), YubicoOtp())
}
