// Signs and decrypts with the keys of a card through SunPKCS11, and checks each in the software providers.
// Run as: java CardKeys.java CONFIGURATION PIN MESSAGE. Signatures go to ALIAS-ALGORITHM.sig for other programs.

import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.PublicKey;
import java.security.Security;
import java.security.Signature;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PSSParameterSpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.List;
import javax.crypto.Cipher;

public class CardKeys {
    static final PSSParameterSpec PSS =
        new PSSParameterSpec("SHA-256", "MGF1", MGF1ParameterSpec.SHA256, 32, 1);

    static Provider card;
    static KeyStore store;
    static char[] pin;
    static byte[] message;

    public static void main(String[] arguments) throws Exception {
        card = Security.getProvider("SunPKCS11").configure(arguments[0]);
        pin = arguments[1].toCharArray();
        message = Files.readAllBytes(Path.of(arguments[2]));
        store = KeyStore.getInstance("PKCS11", card);
        store.load(null, pin);
        for (String algorithm : List.of("SHA256withRSA", "SHA384withRSA", "RSASSA-PSS")) {
            sign("rsa", algorithm, "SunRsaSign");
        }
        for (String algorithm : List.of("SHA256withECDSA", "SHA384withECDSA")) {
            sign("ec", algorithm, "SunEC");
        }
        decrypt("rsa", "RSA/ECB/PKCS1Padding");
        System.out.println("all is right");
    }

    // The public half, out of the provider of the card.
    static PublicKey software(String alias, String provider) throws Exception {
        PublicKey key = store.getCertificate(alias).getPublicKey();
        KeyFactory factory = KeyFactory.getInstance(key.getAlgorithm(), provider);
        return factory.generatePublic(new X509EncodedKeySpec(key.getEncoded()));
    }

    static void sign(String alias, String algorithm, String provider) throws Exception {
        Signature signer = Signature.getInstance(algorithm, card);
        Signature verifier = Signature.getInstance(algorithm, provider);
        if (algorithm.equals("RSASSA-PSS")) {
            signer.setParameter(PSS);
            verifier.setParameter(PSS);
        }
        signer.initSign((PrivateKey) store.getKey(alias, pin));
        signer.update(message);
        byte[] signature = signer.sign();
        for (boolean same : new boolean[] {true, false}) {
            verifier.initVerify(software(alias, provider));
            verifier.update(message);
            if (!same) {
                verifier.update((byte) 0);
            }
            if (verifier.verify(signature) != same) {
                throw new Exception(alias + " " + algorithm + ": " + same);
            }
        }
        Files.write(Path.of(alias + "-" + algorithm + ".sig"), signature);
    }

    static void decrypt(String alias, String algorithm) throws Exception {
        Cipher software = Cipher.getInstance(algorithm, "SunJCE");
        software.init(Cipher.ENCRYPT_MODE, software(alias, "SunRsaSign"));
        byte[] sealed = software.doFinal(message);
        Cipher cipher = Cipher.getInstance(algorithm, card);
        cipher.init(Cipher.DECRYPT_MODE, (PrivateKey) store.getKey(alias, pin));
        if (!Arrays.equals(cipher.doFinal(sealed), message)) {
            throw new Exception(algorithm);
        }
    }
}
