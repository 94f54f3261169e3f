"""Words of product pages, in the languages of many shops, as patterns that the preset's rules match."""

from __future__ import annotations

import re


def _any(*lines: str) -> str:
    return "|".join(word.strip() for line in lines for word in line.split(" | "))


_NUMBER = r"(?:\s*(?:nr|no|num|number|nummer|code|id|#|№|n°|nº|č|kód)\b\.?)"

#: Labels that mean the shop's own number and nothing else.
OWN_NUMBER_LABEL = re.compile(r"^\W*+(?:sku|asin)(?:\s*(?:nr|no|number|code|#)\.?)?(?=\W|$)", re.IGNORECASE)
SKU_LABEL = re.compile(
    # Codes of another kind have labels alike.
    r"^\W*+(?!(?:promo|coupon|discount|voucher|gift|zip|post|postal|area|country|qr|bar|dress|source|error|referral|invite|"
    r"rabatt|gutschein|pin|access|dial|security|verification|tracking|order|invoice|vat|tax|style guide|model)\w*\b)"
    r"(?:[\w-]{2,12}\s)?(?:"
    + _any(
        r"sku",
        rf"(?:art(?:icle|ikel|ículo|igo|icolo|\.)?|item|product|produkt|produit|prod\.|catalogue|cat\.?)[\s.-]*{_NUMBER}",
        rf"(?:bestell|best\.|posting|post|listing|ad|lot|stock|web)[\s.-]*{_NUMBER}",
        r"artikelnummer | bestellnummer | varenummer | varenr | art\.?nr | anzeigen?-?(?:nr|nummer|id)?",
        r"reference | référence | réf | ref | referencia | referência | referenza",
        r"(?:código|codigo|codice|cod|code)"
        r"(?:\s(?:de|del|do|da|di)?\s?(?:prod(?:us|uto|ucto|otto|uit)|art[ií]c(?:olo|ulo|le)))?",
        r"kód(?:\s(?:produktu|tovaru|zboží))? | kod(?:\s(?:produktu|towaru))? | číslo (?:produktu|položky)",
        r"katalogov\w+ č\w+ | nr (?:katalogowy|ref\w*) | indeks | cikkszám | артикул | код(?:\s?(?:товара|товару))?",
        r"šifra(?:\s(?:izdelka|artikla|proizvoda))? | tuotenumero | tuotekoodi | tootekood | toote kood | preces kods",
        r"prekės kodas | ürün kodu | stok kodu | 商品編號 | 商品编号 | 商品番号 | 货号 | 貨號 | 品番 | 상품번호",
        r"mã sp | mã sản phẩm | รหัสสินค้า | מק[\"'״]?ט | رقم المنتج | رمز المنتج",
    )
    + r")(?:\s*(?:\([^)]{1,12}\)|nr|no|number)\.?)?(?=\W|$)",
    re.IGNORECASE,
)

GTIN_LABEL = re.compile(
    r"^\W*+(?:ean|gtin|upc|isbn|jan|barcode|bar code|штрихкод|strichcode|čárový kód|codice ean)"
    r"(?:[\s-]*(?:8|1[0-4]|code|kód|kod|nr|number|no))*(?=\W|$)",
    re.IGNORECASE,
)

_BRAND = _any(
    r"brand(?: name)? | make(?:\s?/\s?manufacturer)? | manufacturer | marke | hersteller | marque | fabricant | marca",
    r"fabricante | marchio | produttore | merk | fabrikant | märke | varumärke | tillverkare | mærke | merke | valmistaja",
    r"tuotemerkki | producent | marka | značka | výrobce | výrobca | gyártó | márka | producător | brend | proizvajalec",
    r"blagovna znamka | proizvođač | robna marka | бренд | марка | производитель | виробник | μάρκα | κατασκευαστής",
    r"tootja | kaubamärk | bränd | ražotājs | zīmols | gamintojas | prekės ženklas | üretici | 品牌 | 廠牌 | ブランド",
    r"メーカー | 브랜드 | 제조사 | thương hiệu | ยี่ห้อ | מותג | יצרן | العلامة التجارية | الماركة",
)
BRAND_LABEL = re.compile(rf"^\W*+(?:{_BRAND})\s*(?=[:：]|$)", re.IGNORECASE)
#: What stands around a brand's name: "Visit the X Store", "Brand: X", "More of the brand: X".
AROUND_BRAND = re.compile(
    rf"^.*\b(?:{_BRAND})\s*[:：]\s*|"
    r"^\W*+(?:visit the|by|von|besuche den|visita lo store di|visita la tienda de|visitez la boutique|bezoek de)\s|"
    r"[- ](?:store|shop)\W*$",
    re.IGNORECASE,
)

BUY_TEXT = re.compile(
    r"^\W*+(?:"
    + _any(
        r"add to (?:my )?(?:cart|basket|bag|trolley) | buy (?:it )?now | buy$ | in den (?:warenkorb|einkaufswagen)",
        r"kaufen",
        r"jetzt kaufen | ajouter au panier | acheter | añadir a(?:l| la) (?:carrito|cesta|compra) | agregar al carr",
        r"comprar | adicionar ao carrinho | aggiungi al carrello | acquista | in (?:mijn )?winkelwagen | bestellen",
        r"lägg i | köp | læg i kurv | kjøp | legg i | lisää ostoskoriin | osta | do koszyka | dodaj do koszyka",
        r"kup teraz",
        r"do košíka | do košíku | vložit do | kúpiť | koupit | kosárba | adaugă în coș | adauga in cos | cumpără",
        r"в корзину | купить | в кошик | купити | dodaj v košarico | u košaricu | dodaj u | lisa ostukorvi | lisa korvi",
        r"į krepšelį | ielikt grozā | pirkt | sepete ekle | satın al | カートに入れる | 加入購物車 | 加入购物车",
        r"放入購物車",
        r"立即購買 | 直接購買 | 立即购买 | 장바구니 | הוסף לסל | הוספה לסל | أضف إلى",
    )
    + ")",
    re.IGNORECASE,
)
