"""What makers call their authenticators, by AAGUID: for a first label that people recognize, and for nothing else.

An AAGUID without a trusted attestation is a claim of the browser, so nothing is allowed or refused by this table. It is
put together from what makers publish (Yubico, Microsoft, FIDO metadata) and what the community collects of password
managers (https://github.com/passkeydeveloper/passkey-authenticator-aaguids), as of August 2026.
"""

from __future__ import annotations

from uuid import UUID

#: Platforms and password managers.
_KEEPERS = {
    "bada5566-a7aa-401f-bd96-45619a55120d": "1Password",
    "a4a2d88e-9796-4356-9164-e2a5a8bd019c": "Avast Password Manager",
    "6bb49926-160a-4306-a100-4eb39ba6ac45": "AVG Password Manager",
    "e7db2bd3-f2fe-4d71-ad78-7e7aa166cfd1": "Avira Password Manager",
    "d548826e-79b4-db40-a3d8-11116f7e8349": "Bitwarden",
    "adce0002-35bc-c60a-648b-0b25f1f05503": "Chrome on Mac",
    "b5397666-4885-aa6b-cebf-e52262a439a2": "Chromium Browser",
    "531126d6-e717-415c-9320-3d9aa6981239": "Dashlane",
    "de503f9c-21a4-4f76-b4b7-558eb55c6f89": "Devolutions",
    "771b48fd-d3d4-4f74-9232-fc157ab0507a": "Edge on Mac",
    "f3809540-7f14-49c1-a8b3-8f813b225541": "Enpass",
    "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4": "Google Password Manager",
    "fbfc3007-154e-4ecc-8c0b-6e020557d7bd": "iCloud Keychain",
    "dd4ec289-e01d-41c9-bb89-70fa845d4bf2": "iCloud Keychain (managed)",
    "39a5647e-1853-446c-a1f6-a79bae9f5bc7": "IDmelon",
    "a10c6dd9-465e-4226-8198-c7c44b91c555": "Kaspersky Password Manager",
    "eaecdef2-1c31-5634-8639-f1cbd9c00a08": "KeePassDX",
    "9addb28c-b46f-4402-808f-019651441ff3": "KeePassPasskey",
    "fdb141b2-5d84-443e-8a35-4698c205a502": "KeePassXC",
    "0ea242b4-43c4-4a1b-8b17-dd6d0b6baec6": "Keeper",
    "b78a0a55-6ef8-d246-a042-ba0f6d55050c": "LastPass",
    "22248c4c-7a12-46e2-9a41-44291b373a4d": "LogMeOnce",
    "d3452668-01fd-4c12-926c-83a4204853aa": "Microsoft Password Manager",
    "b84e4048-15dc-4dd0-8640-f4f60813c8af": "NordPass",
    "fa37f553-f9b6-4adb-ac53-8bbb57ebdf0d": "Norton Password Manager",
    "50726f74-6f6e-5061-7373-50726f746f6e": "Proton Pass",
    "d350af52-0351-4ba2-acd3-dfeeadc3f764": "pwSafe",
    "53414d53-554e-4700-0000-000000000000": "Samsung Pass",
    "d9be9d39-e6a6-4c28-a581-32b044d986e4": "Sticky Password Manager",
    "cc45f64e-52a2-451b-831a-4edd8022a202": "ToothPic Passkey Provider",
    "45e3057e-b2f9-48ed-912f-9b901e153b16": "Uniqkey",
    "08987058-cadc-4b81-b6e1-30de50dcbe96": "Windows Hello",
    "6028b017-b1d4-4c02-b4b3-afcdafc96bb2": "Windows Hello",
    "9ddd1817-af5a-4672-a2b9-3e3dd95000a9": "Windows Hello",
    "b35a26b2-8f6e-4697-ab1d-d44db4da28c6": "Zoho Vault",
}

#: Security keys, and apps that are like one.
_KEYS = {
    "ba76a271-6eb6-4171-874d-b6428dbe3437": "ATKey.Pro",
    "e416201b-afeb-41ca-a03d-2281c28322aa": "ATKey.Pro",
    "12ded745-4bed-47d4-abaa-e713f51d6393": "Feitian AllinPass",
    "77010bd7-212a-4fc9-b236-d2ca5e9d4084": "Feitian BioPass",
    "b6ede29c-3772-412c-8a78-539c1f4c62d2": "Feitian BioPass Plus",
    "833b721a-ff5f-4d00-bb2e-bdda3ec01e29": "Feitian ePass",
    "234cd403-35a2-4cc2-8015-77ea280c77f5": "Feitian ePass NFC",
    "ee041bce-25e5-4cdb-8f86-897fd6418464": "Feitian ePass NFC",
    "42b4fb4a-2866-43b2-9bf7-6c6669c2e5d3": "Google Titan Security Key",
    "692db549-7ae5-44d5-a1e5-dd20a493b723": "HID Crescendo Key",
    "2d3bec26-15ee-4f5d-88b2-53622490270b": "HID Crescendo Key V2",
    "4e768f2c-5fab-48b3-b300-220eb487752b": "Hideez Key 4",
    "9f77e279-a6e2-4d58-b700-31e5943c6a98": "Hyper FIDO Pro",
    "d94a29d9-52dd-4247-9c2d-8b818b610389": "Kensington VeriMark Guard",
    "90a3ccdf-635c-4729-a248-9b709135078f": "Microsoft Authenticator",
    "de1e552d-db1d-4423-a619-566b625cdc84": "Microsoft Authenticator",
    "998f358b-2dd2-4cbe-a43a-e8107438dfb3": "OnlyKey",
    "664d9f67-84a2-412a-9ff7-b4f7d8ee6d05": "OpenSK",
    "7e3f3d30-3557-4442-bdae-139312178b39": "RSA DS100",
    "efb96b10-a9ee-4b6c-a4a9-d32125ccd4a4": "SafeNet eToken FIDO",
    "b92c3f9a-c014-4056-887f-140a2501163b": "Security Key by Yubico",
    "f8a011f3-8c0a-4d15-8006-17111f9edc7d": "Security Key by Yubico",
    "0bb43545-fd2c-4185-87dd-feb0b2916ace": "Security Key NFC by Yubico",
    "149a2021-8ef6-4133-96b8-81f8d5b7f1f5": "Security Key NFC by Yubico",
    "47ab2fb4-66ac-4184-9ae1-86be814012d5": "Security Key NFC by Yubico",
    "6d44ba9b-f6ec-2e49-b930-0c8fe920cb73": "Security Key NFC by Yubico",
    "a4e9fc6d-4cbe-4758-b8ba-37598bb5bbaa": "Security Key NFC by Yubico",
    "e77e3c64-05e3-428b-8824-0cbeb04b829d": "Security Key NFC by Yubico",
    "8876631b-d4a0-427f-5773-0ec71c9e0279": "SoloKeys Solo",
    "8976631b-d4a0-427f-5773-0ec71c9e0279": "SoloKeys Solo Tap",
    "9876631b-d4a0-427f-5773-0ec71c9e0279": "SoloKeys Somu",
    "931327dd-c89b-406c-a81e-ed7058ef36c6": "Swissbit iShield Key",
    "5d629218-d3a5-11ed-afa1-0242ac120002": "Swissbit iShield Key Pro",
    "eabb46cc-e241-80bf-ae9e-96fa6d2975cf": "Token2 PIN+ Security Key",
    "ab32f0c6-2239-afbb-c470-d2ef4e254db7": "Token2 Security Key",
    "19083c3d-8383-4b18-bc03-8f1c9ab2fd1b": "YubiKey 5",
    "cb69481e-8ff7-4039-93ec-0a2729a154a8": "YubiKey 5",
    "ee882879-721c-4913-9775-3dfcce97072a": "YubiKey 5",
    "ff4dac45-ede8-4ec2-aced-cf66103f4335": "YubiKey 5",
    "73bb0cd4-e502-49b8-9c6f-b59445bf720b": "YubiKey 5 FIPS",
    "2fc0579f-8113-47ea-b116-bb5a8db9202a": "YubiKey 5 NFC",
    "662ef48a-95e2-4aaa-a6c1-5b9c40375824": "YubiKey 5 NFC",
    "a25342c0-3cdc-4414-8e46-f4807fca511c": "YubiKey 5 NFC",
    "d7781e5d-e353-46aa-afe2-3ca49f13332a": "YubiKey 5 NFC",
    "fa2b99dc-9e39-4257-8f92-4a30d23c4118": "YubiKey 5 NFC",
    "c1f9a0bc-1dd2-404a-b27f-8e29047a43fd": "YubiKey 5 NFC FIPS",
    "24673149-6c86-42e7-98d9-433fb5b73296": "YubiKey 5Ci",
    "a02167b9-ae71-4ac7-9a07-06432ebb6f1c": "YubiKey 5Ci",
    "c5ef55ff-ad9a-4b9f-b580-adebafe026d0": "YubiKey 5Ci",
    "85203421-48f9-4355-9bc8-8a53846e5083": "YubiKey 5Ci FIPS",
    "7d1351a6-e097-4852-b8bf-c9ac5c9ce4a3": "YubiKey Bio",
    "83c47309-aabb-4108-8470-8be838b573cb": "YubiKey Bio",
    "d8522d9f-575b-4866-88a9-ba99fa02f35b": "YubiKey Bio",
}

NAMES = _KEEPERS | _KEYS


def find_name(aaguid: bytes) -> str:
    """The name of an AAGUID of 16 bytes; "" for one that nobody told us."""
    return NAMES.get(str(UUID(bytes=aaguid)), "")
