// Makes key pairs with a card through SunPKCS11 without naming a place for them, which makes them objects of a session, and
// uses them. Run as: java SessionKeys.java CONFIGURATION PIN MESSAGE.

import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.Provider;
import java.security.PublicKey;
import java.security.Security;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import javax.crypto.KeyAgreement;

public class SessionKeys {
    static Provider card;

    public static void main(String[] arguments) throws Exception {
        card = Security.getProvider("SunPKCS11").configure(arguments[0]);
        KeyStore store = KeyStore.getInstance("PKCS11", card);
        store.load(null, arguments[1].toCharArray());
        byte[] message = Files.readAllBytes(Path.of(arguments[2]));

        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", card);
        generator.initialize(new ECGenParameterSpec("secp256r1"));
        KeyPair curve = generator.generateKeyPair();
        sign(curve, "SHA256withECDSA", "SunEC", message);
        agree(curve);
        generator = KeyPairGenerator.getInstance("RSA", card);
        generator.initialize(2048);
        sign(generator.generateKeyPair(), "SHA256withRSA", "SunRsaSign", message);
        System.out.println("all is right, and " + store.size() + " entries are stored");
    }

    static PublicKey software(PublicKey key, String provider) throws Exception {
        KeyFactory factory = KeyFactory.getInstance(key.getAlgorithm(), provider);
        return factory.generatePublic(new X509EncodedKeySpec(key.getEncoded()));
    }

    static void sign(KeyPair pair, String algorithm, String provider, byte[] message)
            throws Exception {
        Signature signer = Signature.getInstance(algorithm, card);
        signer.initSign(pair.getPrivate());
        signer.update(message);
        byte[] signature = signer.sign();
        for (boolean same : new boolean[] {true, false}) {
            Signature verifier = Signature.getInstance(algorithm, provider);
            verifier.initVerify(software(pair.getPublic(), provider));
            verifier.update(message);
            if (!same) {
                verifier.update((byte) 0);
            }
            if (verifier.verify(signature) != same) {
                throw new Exception(algorithm + ": " + same);
            }
        }
    }

    // With a key of the software provider.
    static void agree(KeyPair pair) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", "SunEC");
        generator.initialize(new ECGenParameterSpec("secp256r1"));
        KeyPair other = generator.generateKeyPair();
        KeyAgreement here = KeyAgreement.getInstance("ECDH", card);
        here.init(pair.getPrivate());
        here.doPhase(other.getPublic(), true);
        KeyAgreement there = KeyAgreement.getInstance("ECDH", "SunEC");
        there.init(other.getPrivate());
        there.doPhase(software(pair.getPublic(), "SunEC"), true);
        if (!Arrays.equals(here.generateSecret(), there.generateSecret())) {
            throw new Exception("ECDH");
        }
    }
}
